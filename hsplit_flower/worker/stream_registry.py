"""Which stream is connected to each session: one at a time, the newest."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StreamRegistry:
    """The streams that sessions are reached by, and how each of them is ended.

    A client that lost its connection comes back on a new stream, long before the worker can know
    that the one before it is dead: so the newer one ends the older.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hang_up: dict[str, Callable[[], object]] = {}

    @contextmanager
    def held(self, token: str, hang_up: Callable[[], object]) -> Iterator[None]:
        """Hold a session's line while the block runs, in the place of whoever held it before.

        Parameters
        ----------
        token
            The session's; it need not be one that is open.
        hang_up
            Ends the stream. It is called when a newer one comes, or when the session is closed.
        """
        with self._lock:
            older = self._hang_up.get(token)
            self._hang_up[token] = hang_up
        if older is not None:
            older()
        try:
            yield
        finally:
            with self._lock:
                if self._hang_up.get(token) is hang_up:
                    del self._hang_up[token]

    def end(self, token: str) -> None:
        """Hang up on whoever is connected to a session, if anybody is."""
        with self._lock:
            hang_up = self._hang_up.pop(token, None)
        if hang_up is not None:
            hang_up()
