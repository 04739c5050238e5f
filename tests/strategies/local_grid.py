"""Flower in this process: every message crosses as bytes and is answered by a real ClientApp.

What Ray or a SuperLink would add are processes, and seconds a message.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from flwr.app import Message
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from benchmarks.tools.threads import NodeConfig, ThreadGrid


class LocalGrid(ThreadGrid):
    """Nodes that run one ClientApp, one message after the other.

    Parameters
    ----------
    app
        What every node runs.
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
        # One thread: transformers cannot load two models at a time in one process.
        super().__init__(app, node_configs, num_threads=1)
        self.sent: list[Message] = []
        self.received: list[Message] = []
        self.late: list[Future[Message]] = []
        self._before = before
        self._last = set(last)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        ready = list(messages)
        for message in ready:
            self._before(message)
        self.sent += ready
        ready.sort(key=lambda message: message.metadata.dst_node_id in self._last)
        answers = [self.threads.submit(self.answer, _over_the_wire(message)) for message in ready]
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


def _over_the_wire(message: Message) -> Message:
    return message_from_proto(
        ProtoMessage.FromString(message_to_proto(message).SerializeToString())
    )
