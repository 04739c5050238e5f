"""Flower in this process: every message crosses as bytes and is answered by a real ClientApp.

What Ray or a SuperLink would add are processes, and seconds a message.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid

NodeConfig = Mapping[str, bool | int | float | str]


class LocalGrid(Grid):
    """Nodes that run one ClientApp, one message after the other.

    Parameters
    ----------
    app
        What every node runs; each message finds a fresh context, as in a new process.
    node_configs
        Who is connected. Tests add and remove nodes between rounds.
    before
        Is called with every message before it is sent.
    last
        These nodes are served after all others.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: Mapping[int, NodeConfig],
        *,
        before: Callable[[Message], None] = lambda message: None,
        last: Iterable[int] = (),
    ) -> None:
        self.app = app
        self.nodes = dict(node_configs)
        self.sent: list[Message] = []
        self.received: list[Message] = []
        self.late: list[Future[Message]] = []
        self._before = before
        self._last = set(last)
        # One thread: transformers cannot load two models at a time in one process.
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="client")

    def __enter__(self) -> "LocalGrid":
        be_the_server()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        ready = list(messages)
        for message in ready:
            self._before(message)
        self.sent += ready
        ready.sort(key=lambda message: message.metadata.dst_node_id in self._last)
        answers = [self._pool.submit(self._answer, _over_the_wire(message)) for message in ready]
        deadline = time.monotonic() + (60.0 if timeout is None else timeout)
        replies = []
        for answer in answers:
            try:
                reply = answer.result(timeout=max(0.0, deadline - time.monotonic()))
                replies.append(_over_the_wire(reply))
            except FutureTimeoutError:
                self.late.append(answer)
        random.shuffle(replies)
        self.received = replies or self.received
        return replies

    def _answer(self, message: Message) -> Message:
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
    def run(self) -> object:
        raise NotImplementedError("the strategy has no business with this")

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError("deprecated: messages are made by their constructor")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError("the strategy sends and receives in one call")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError("the strategy sends and receives in one call")


def be_the_server() -> None:
    """Say whose messages are made in this process: newer Flowers ask that of a global."""
    with suppress(ImportError):
        from flwr.supercore.task_identity import TaskIdentity

        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def _over_the_wire(message: Message) -> Message:
    return message_from_proto(
        ProtoMessage.FromString(message_to_proto(message).SerializeToString())
    )
