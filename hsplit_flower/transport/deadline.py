"""A deadline for something that waits: a call is cancelled when its time is over."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc


@contextmanager
def deadline(
    call: grpc.RpcContext, seconds: float, tell: Callable[[], None] | None = None
) -> Iterator[threading.Event]:
    """Cancel ``call`` unless what is inside ends within ``seconds``; the event says whether.

    ``tell`` is called when it is: what waits inside a cancelled call need not come back.
    """
    late = threading.Event()

    def give_up() -> None:
        late.set()
        if tell is not None:
            tell()
        call.cancel()

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
