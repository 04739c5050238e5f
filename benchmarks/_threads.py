"""Flower in one process: every node a thread, every message really sent to a ClientApp.

Ray or a SuperLink would add processes that share this machine's cores as they please.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Any, final

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid


@final
class ThreadGrid(Grid):
    """Nodes that all run one ClientApp, each in a thread of its own.

    Parameters
    ----------
    app
        What every node runs.
    node_configs
        Who is connected, by node id.
    """

    def __init__(
        self, app: ClientApp, node_configs: Mapping[int, Mapping[str, bool | int | float | str]]
    ) -> None:
        self._app = app
        self._nodes = node_configs
        self._threads = ThreadPoolExecutor(max_workers=len(node_configs))

    def __enter__(self) -> "ThreadGrid":
        # Newer Flowers ask a global whose messages are made in this process.
        with suppress(ImportError):
            from flwr.supercore.task_identity import TaskIdentity

            TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        deadline = time.monotonic() + (600.0 if timeout is None else timeout)
        answers: list[Future[Message]] = [
            self._threads.submit(self._answer, message) for message in messages
        ]
        replies = []
        for answer in answers:
            with suppress(FutureTimeoutError):
                replies.append(answer.result(timeout=max(0.0, deadline - time.monotonic())))
        return replies

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(
            run_id=1,
            node_id=node,
            node_config=dict(self._nodes[node]),
            state=RecordDict(),
            run_config={},
        )
        try:
            return self._app(message, context)
        except Exception as error:  # as a SuperNode does with whatever its app raises
            return Message(
                Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, repr(error)), reply_to=message
            )

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
