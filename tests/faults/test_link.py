"""A link that is disturbed, between two sockets."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.faults.link import FaultyLink

Ends = tuple[FaultyLink, socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        closing(FaultyLink(server.getsockname()[1])) as link,
        _connected(link) as near,
        server.accept()[0] as far,
    ):
        near.settimeout(5.0)
        far.settimeout(5.0)
        yield link, near, far


def _connected(link: FaultyLink) -> socket.socket:
    host, port = link.address.split(":")
    return socket.create_connection((host, int(port)), timeout=5.0)


def _is_over(end: socket.socket) -> bool:
    try:
        return end.recv(9) == b""
    except ConnectionResetError:
        return True


def test_it_carries_both_ways(ends: Ends) -> None:
    _, near, far = ends
    near.sendall(b"up")
    far.sendall(b"down")
    assert (far.recv(9), near.recv(9)) == (b"up", b"down")


def test_one_that_is_cut_ends_connections_and_takes_no_others(ends: Ends) -> None:
    link, near, _ = ends
    link.cut()
    assert _is_over(near)
    with _connected(link) as other:
        assert _is_over(other)
    link.mend()


def test_one_that_hangs_delivers_later(ends: Ends) -> None:
    link, near, far = ends
    link.hang()
    near.sendall(b"late")
    far.settimeout(0.2)
    with pytest.raises(TimeoutError):
        far.recv(9)
    link.mend()
    far.settimeout(5.0)
    assert far.recv(9) == b"late"


def test_one_that_is_slow_is_so_for_every_piece(ends: Ends) -> None:
    link, near, far = ends
    link.slow(0.1)
    started = time.monotonic()
    near.sendall(b"x")
    assert far.recv(9) == b"x"
    assert time.monotonic() - started >= 0.1


def test_one_that_garbles_changes_one_piece(ends: Ends) -> None:
    link, near, far = ends
    link.garble()
    near.sendall(b"\x00\xff")
    assert far.recv(9) == b"\xff\x00"
    near.sendall(b"\x00")
    assert far.recv(9) == b"\x00"
