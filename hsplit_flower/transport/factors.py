"""Adapters and session settings in their form on the wire, for workers in other processes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..adapters import LowRank
from ..errors import CodecError
from ..types import Labels, SessionSpec, Start, WireType
from .codec import decode, encode
from .split_pb2 import Factors
from .split_pb2 import SessionSpec as SpecMessage


@dataclass(frozen=True, kw_only=True)
class SessionResult:
    """What a session leaves behind: trained updates above the cut, importance, steps done."""

    num_steps: int
    updates: Mapping[str, LowRank]
    importance: Mapping[str, float]


def factors_to_wire(updates: Mapping[str, LowRank]) -> Iterator[Factors]:
    """One message a weight, so that no message holds a whole adapter."""
    for name, update in updates.items():
        if update.rank:
            yield Factors(weight=name, b=encode(update.b), a=encode(update.a))


def factors_from_wire(messages: Iterable[Factors]) -> dict[str, LowRank]:
    """The adapter that a stream of messages carries."""
    updates = {}
    for message in messages:
        b, a = decode(message.b), decode(message.a)
        if b.ndim != 2 or a.ndim != 2 or not (b.is_floating_point() and a.is_floating_point()):
            raise CodecError(f"factors of {message.weight!r} must be two matrices of numbers")
        updates[message.weight] = LowRank(b=b.float(), a=a.float())
    return updates


def spec_to_wire(spec: SessionSpec) -> SpecMessage:
    """A session's settings as a message."""
    return SpecMessage(
        client=spec.client,
        cut=spec.cut,
        ranks=spec.ranks,
        labels=spec.labels.value,
        start=spec.start.value,
        scale=spec.scale,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        seed=spec.seed,
        wire_type=spec.wire_type.value,
        wire_gradient_type=spec.wire_gradient_type.value if spec.wire_gradient_type else "",
        in_flight=spec.in_flight,
        max_tokens=spec.max_tokens,
        train=spec.train,
    )


def spec_from_wire(message: SpecMessage) -> SessionSpec:
    """A session's settings from a message.

    Raises
    ------
    CodecError
        If a value is out of range or unknown.
    """
    try:
        return SessionSpec(
            client=message.client,
            cut=message.cut,
            ranks=dict(message.ranks),
            labels=Labels(message.labels),
            start=Start(message.start),
            scale=message.scale,
            learning_rate=message.learning_rate,
            weight_decay=message.weight_decay,
            seed=message.seed,
            wire_type=WireType(message.wire_type),
            wire_gradient_type=(
                WireType(message.wire_gradient_type) if message.wire_gradient_type else None
            ),
            in_flight=message.in_flight,
            max_tokens=message.max_tokens,
            train=message.train,
        )
    except ValueError as error:
        raise CodecError(f"a session cannot be opened like this: {error}") from error
