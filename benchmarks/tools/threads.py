"""Flower in one process: every node a thread, every message really sent to a ClientApp.

Ray or a SuperLink would add processes that share this machine's cores as they please.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

if TYPE_CHECKING:
    from typing_extensions import Self

NodeConfig = Mapping[str, bool | int | float | str]


class ThreadGrid(Grid):
    """Nodes that all run one ClientApp, each message with a fresh context, as in a new process.

    Parameters
    ----------
    app
        What every node runs.
    node_configs
        Who is connected, by node id.
    num_threads
        How many messages are answered at a time; a thread for each node where nothing is said.
    """

    def __init__(
        self, app: ClientApp, node_configs: Mapping[int, NodeConfig], *, num_threads: int = 0
    ) -> None:
        self.app = app
        self.nodes = dict(node_configs)
        self.threads = ThreadPoolExecutor(
            max_workers=num_threads or len(self.nodes), thread_name_prefix="client"
        )

    def __enter__(self) -> "Self":
        be_the_server()
        return self

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(wait=True)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        deadline = time.monotonic() + (600.0 if timeout is None else timeout)
        answers: list[Future[Message]] = [
            self.threads.submit(self.answer, message) for message in messages
        ]
        replies = []
        for answer in answers:
            with suppress(FutureTimeoutError):
                replies.append(answer.result(timeout=max(0.0, deadline - time.monotonic())))
        return replies

    def answer(self, message: Message) -> Message:
        """What the node that a message is for replies."""
        node = message.metadata.dst_node_id
        context = Context(
            run_id=1,
            node_id=node,
            node_config=dict(self.nodes[node]),
            state=RecordDict(),
            run_config={},
        )
        try:
            return self.app(message, context)
        except Exception as error:  # as a SuperNode does with whatever its app raises
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    def set_run(self, run: object) -> None:
        raise NotImplementedError("the strategy has no business with this")

    @property
    def run(self) -> Any:
        raise NotImplementedError("the strategy has no business with this")

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError("messages are made by their constructor")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError("the strategy sends and receives in one call")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError("the strategy sends and receives in one call")


def be_the_server() -> None:
    """Say whose messages are made in this process: newer Flowers ask that of a global."""
    with suppress(ImportError):
        from flwr.supercore.task_identity import TaskIdentity

        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
