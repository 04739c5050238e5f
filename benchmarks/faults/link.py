"""A link that can be cut, go silent, become slow or garble what it carries, as a TCP proxy."""

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Final

CHUNK_BYTES: Final = 2**16
POLL_SECONDS: Final = 0.01
# Closing with this sends a reset, as a machine does that knows nothing of the connection.
RESET: Final = struct.pack("ii", 1, 0)


class FaultyLink:
    """A port that leads to another one while nothing is wrong.

    Parameters
    ----------
    port
        Where it leads, on this machine.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._is_open = threading.Event()
        self._is_open.set()
        self._is_cut = False
        self._delay_seconds = 0.0
        self._garbles = threading.Event()
        self._ends: set[socket.socket] = set()
        # What is connected while the link is cut is reset with the others, or refused.
        self._making = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it is reached."""
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def cut(self) -> None:
        """Reset every connection, and refuse others."""
        with self._making:
            self._is_cut = True
            self._reset()

    def hang(self) -> None:
        """Carry nothing, and tell nobody."""
        self._is_open.clear()

    def slow(self, delay_seconds: float) -> None:
        """Hold every piece back for so long."""
        self._delay_seconds = delay_seconds

    def garble(self) -> None:
        """Carry one piece, the next, with every bit inverted."""
        self._garbles.set()

    def mend(self) -> None:
        """Be as at first."""
        self._is_cut, self._delay_seconds = False, 0.0
        self._garbles.clear()
        self._is_open.set()

    def close(self) -> None:
        """End it and all connections."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        self._is_open.set()

    def _reset(self) -> None:
        for end in list(self._ends):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                with self._making:
                    self._join(near)

    def _join(self, near: socket.socket) -> None:
        try:
            if self._is_cut:
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self._ends |= {near, far}
        for ends in ((near, far), (far, near)):
            threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := source.recv(CHUNK_BYTES):
                self._is_open.wait()
                time.sleep(self._delay_seconds)
                if self._garbles.is_set():
                    self._garbles.clear()
                    data = bytes(255 - value for value in data)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        # The other direction's thread ends by the same; who comes second finds nothing to close.
        self._ends -= {source}
        source.close()
