"""Callers who mean no good: calls that hang, and messages that are nearly, or not at all, right."""

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, cast

import torch

from hsplit_flower.types import WireType
from hsplit_flower.wire.messages import Forward, request_to_wire
from hsplit_flower.wire.proto.split_pb2 import DataType, StepRequest

EXCHANGE: Final = "/hsplit.v1.SplitWorker/Exchange"
DESCRIBE: Final = "/hsplit.v1.WorkerControl/Describe"
CALLS_PER_CONNECTION: Final = 50
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Kinds of HTTP/2 frames, and the flag that says that headers end with this one.
HEADERS, SETTINGS, END_HEADERS = 1, 4, 4
HUGE: Final = (0, 1, 2, 2**16, 2**31, 2**33, 2**62, 2**64 - 1)


@contextmanager
def hanging_calls(
    address: str, path: str, metadata: list[tuple[tuple[str, str], ...]]
) -> Iterator[None]:
    """Calls whose headers are sent, one for each metadata, and then nothing."""
    connections: list[socket.socket] = []
    try:
        for index, entries in enumerate(metadata):
            if index % CALLS_PER_CONNECTION == 0:
                connections.append(_connected(address))
                connections[-1].sendall(PREFACE + _frame(SETTINGS, 0, 0, b""))
            stream = 1 + 2 * (index % CALLS_PER_CONNECTION)
            headers = _headers(path, entries)
            connections[-1].sendall(_frame(HEADERS, END_HEADERS, stream, headers))
        yield
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def idle_connections(address: str, count: int) -> Iterator[None]:
    """Connections on which nothing is ever sent."""
    connections: list[socket.socket] = []
    try:
        # As many as are let in.
        with suppress(OSError):
            for _ in range(count):
                connections.append(_connected(address))
        yield
    finally:
        for connection in connections:
            connection.close()


def hostile_message(rng: random.Random, width: int, vocabulary: int) -> bytes:
    """Bytes that are no request, a request with bytes changed or cut off, or a wrong one."""
    message = _request(rng, width, vocabulary)
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.choice((0, 1, 5, 200, 2000)))
    if kind == 1:
        changed = bytearray(message.SerializeToString())
        for _ in range(rng.choice((1, 8, 64))):
            changed[rng.randrange(min(len(changed), 200))] = rng.randrange(256)
        return bytes(changed)
    if kind == 2:
        whole = message.SerializeToString()
        return bytes(whole[: rng.randrange(len(whole))])
    _make_wrong(rng, message)
    return bytes(message.SerializeToString())


def many_dimensions(count: int) -> bytes:
    """A request whose payload has so many dimensions, of a byte each."""
    payload = b"\x08\x01" + _field(2, bytes([100]) * count)
    return b"\x08\x01" + _field(2, _field(1, payload))


def many_tokens(num_bytes: int, width: int) -> bytes:
    """A request that is right but for its size: int8, which grows fourfold as it is decoded."""
    count = num_bytes // width
    message = StepRequest(step=1)
    hidden = message.forward.hidden
    hidden.data_type = DataType.DATA_TYPE_INT8_ROWS
    hidden.data, hidden.scales = bytes(count * width), bytes(4 * count)
    hidden.shape.extend([1, count, width])
    return bytes(message.SerializeToString())


def _request(rng: random.Random, width: int, vocabulary: int) -> StepRequest:
    rows, positions = rng.choice((1, 2, 3)), rng.choice((1, 2, 6))
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    labels = torch.randint(0, vocabulary, (rows, positions), generator=generator)
    hidden = torch.randn(rows, positions, width, generator=generator)
    forward = Forward(step=rng.choice((0, 1, 2, 9)), hidden=hidden, labels=labels)
    return request_to_wire(forward, rng.choice(list(WireType)))


def _make_wrong(rng: random.Random, message: StepRequest) -> None:
    forward = message.forward
    place = rng.choice((forward.hidden, forward.labels))
    change = rng.randrange(6)
    if change == 0:
        del place.shape[:]
        place.shape.extend(rng.choice(HUGE) for _ in range(rng.randrange(12)))
    elif change == 1:
        place.data_type = cast(DataType, rng.choice((0, 1, 3, 4, 6, 7, 99, -1)))
    elif change == 2:
        place.data += bytes(rng.randrange(1, 64))
    elif change == 3:
        message.step = rng.choice(HUGE)
    elif change == 4:
        message.micro_batch = rng.choice((1, 1023, 2**32 - 1))
        message.num_micro_batches = rng.choice((0, 1, 1025, 2**32 - 1))
    else:
        values = [rng.choice((-1, -101, vocabulary_end())) for _ in range(len(place.data) // 4)]
        place.data = struct.pack(f"<{len(values)}i", *values)


def vocabulary_end() -> int:
    """A label that no model has."""
    return 2**31 - 1


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=2)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = struct.pack(">I", len(payload))[1:]
    return length + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _headers(path: str, metadata: tuple[tuple[str, str], ...]) -> bytes:
    """HPACK, each entry as a literal that is not indexed."""
    entries = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "worker"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *metadata,
    )
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in entries)


def _text(value: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > 126:
        raise ValueError(f"{len(encoded)} bytes: more than one byte can count")
    return bytes([len(encoded)]) + encoded


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes."""
    length, left = bytearray(), len(content)
    while left >= 128:
        length.append(left & 127 | 128)
        left >>= 7
    length.append(left)
    return bytes([number << 3 | 2]) + bytes(length) + content
