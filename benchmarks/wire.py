"""What a token costs on the wire, in either direction, for each type and label mode.

Messages are those of a real training step, made and serialised by the library's own functions; all
that is in them is counted: hidden states or gradients, int8's scale (four bytes a token), labels,
lengths and the messages' own fields. What gRPC and TCP add around a message is not.
"""

import time
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.codec import decode, encode, value_bytes
from hsplit_flower.wire.messages import (
    Backward,
    Forward,
    Gradient,
    LastHidden,
    Loss,
    Reply,
    Request,
    reply_to_wire,
    request_to_wire,
)
from hsplit_flower.wire.proto.split_pb2 import Payload

BATCH: Final = 8
SEQUENCE: Final = 128
WIDTHS: Final = (768, 2048, 4096)
VOCABULARY: Final = 32000
TARGET: Final = Target("<=", 1.02)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Bytes a token over those of its values alone, then the codec's speed."""
    generator = torch.Generator().manual_seed(settings.seeds[0])
    for width in WIDTHS[:1] if settings.quick else WIDTHS:
        hidden = torch.randn(BATCH, SEQUENCE, width, generator=generator)
        for labels in Labels:
            for wire_type in WireType:
                yield from _figures(hidden, labels, wire_type, generator)
    width = WIDTHS[0] if settings.quick else WIDTHS[-1]
    hidden = torch.randn(BATCH, SEQUENCE, width, generator=generator)
    for wire_type in WireType:
        yield from _speeds(hidden, wire_type, 5 if settings.quick else 15)
    yield Detail(name="step", value={"batch": BATCH, "sequence": SEQUENCE, "padded on": "right"})


def _figures(
    hidden: Tensor, labels: Labels, wire_type: WireType, generator: torch.Generator
) -> Iterator[Figure]:
    requests, replies = step_messages(hidden, labels, generator)
    up = sum(len(request_to_wire(r, wire_type).SerializeToString()) for r in requests)
    down = sum(len(reply_to_wire(r, wire_type).SerializeToString()) for r in replies)
    num_tokens = BATCH * SEQUENCE
    ideal = len(requests) * hidden.shape[-1] * value_bytes(wire_type)
    name = f"{wire_type.value}, width {hidden.shape[-1]}, labels at the {labels.value}"
    for direction, num_bytes in (("up", up), ("down", down)):
        per_token = num_bytes / num_tokens
        yield Figure(name=f"{name}: {direction}", value=per_token, unit="B/token")
        ratio = per_token / ideal
        yield Figure(name=f"{name}: {direction} / values", value=ratio, unit="1", target=TARGET)


def step_messages(
    hidden: Tensor, labels: Labels, generator: torch.Generator
) -> tuple[list[Request], list[Reply]]:
    """Requests and replies of one training step on rows of uneven length."""
    batch, seq, _ = hidden.shape
    ids = torch.randint(0, VOCABULARY, (batch, seq), generator=generator)
    lengths = torch.randint(seq // 2, seq, (batch,), generator=generator)
    mask = (torch.arange(seq) < lengths[:, None]).long()
    if labels is Labels.SERVER:
        forward = Forward(step=1, hidden=hidden, labels=ids, attention_mask=mask)
        return [forward], [Loss(step=1, loss_sum=1.0, num_tokens=int(mask.sum()), gradient=hidden)]
    forward = Forward(step=1, hidden=hidden, attention_mask=mask)
    backward = Backward(step=1, gradient=hidden)
    return [forward, backward], [
        LastHidden(step=1, hidden=hidden),
        Gradient(step=1, gradient=hidden),
    ]


def _speeds(hidden: Tensor, wire_type: WireType, repeats: int) -> Iterator[Figure]:
    """Of a float32 hidden state, counted by what it takes in float32, whatever it is sent as."""
    gigabytes = hidden.nbytes / 1e9
    there: list[float] = []
    back: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        sent = encode(hidden, wire_type).SerializeToString()
        between = time.perf_counter()
        decode(Payload.FromString(sent)).float()
        back.append(gigabytes / (time.perf_counter() - between))
        there.append(gigabytes / (between - started))
    yield Figure.of_repeats(f"{wire_type.value}: made and serialised", there, "GB/s")
    yield Figure.of_repeats(f"{wire_type.value}: parsed and read", back, "GB/s")


BENCHMARK = Benchmark(
    name="wire",
    summary="Bytes a token and direction, for each type on the wire and label mode.",
    measure=measure,
)
