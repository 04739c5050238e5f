"""Adapters in their form on the wire, for workers in other processes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from ..adapters import LowRank, concatenate
from ..errors import CodecError
from .codec import decode, encode
from .proto.split_pb2 import Factors

SLICE_BYTES = 4 * 2**20
"""Large enough that messages are few, and far below what any run allows."""
# More than a message of factors has besides the numbers and the weight's name.
FRAME_BYTES = 128


@dataclass(frozen=True, kw_only=True)
class SessionResult:
    """What a session leaves behind: trained updates above the cut, importance, steps done."""

    num_steps: int
    updates: Mapping[str, LowRank]
    importance: Mapping[str, float]


def factors_to_wire(updates: Mapping[str, LowRank], *, max_message_bytes: int) -> Iterator[Factors]:
    """A few ranks of one weight in each message, so that none grows with the adapter or its ranks.

    A weight's messages follow each other, its first ranks first.

    Parameters
    ----------
    updates
        By weight name; those of rank 0 are left out.
    max_message_bytes
        What both sides allow. One rank is sent whole, whatever it takes.
    """
    room = min(SLICE_BYTES, max_message_bytes) - FRAME_BYTES
    for name, update in updates.items():
        rank_bytes = update.b.itemsize * (update.out_features + update.in_features)
        ranks = max(1, (room - len(name.encode())) // rank_bytes)
        for first in range(0, update.rank, ranks):
            some = update.tail(first).head(ranks)
            yield Factors(weight=name, b=encode(some.b), a=encode(some.a))


def factors_from_wire(messages: Iterable[Factors]) -> dict[str, LowRank]:
    """The adapter that a stream of messages carries.

    Raises
    ------
    CodecError
        If a message holds no factors, a weight's messages do not follow each other, or its ranks
        are more than any adapter has.
    AdapterError
        If two factors do not belong together.
    """
    updates: dict[str, LowRank] = {}
    for name, own in groupby(messages, key=lambda message: message.weight):
        if name in updates:
            raise CodecError(
                f"factors of {name!r} came in two places: one after the other is wanted"
            )
        updates[name] = _joined(name, own)
    return updates


def _joined(name: str, messages: Iterable[Factors]) -> LowRank:
    """All ranks of one weight."""
    parts: list[LowRank] = []
    rank = 0
    for message in messages:
        b, a = decode(message.b), decode(message.a)
        if b.ndim != 2 or a.ndim != 2 or not (b.is_floating_point() and a.is_floating_point()):
            raise CodecError(f"factors of {name!r} must be two matrices of numbers")
        parts.append(LowRank(b=b.float(), a=a.float()))
        rank += parts[-1].rank
        highest = parts[0].out_features + parts[0].in_features
        if rank > highest:
            raise CodecError(f"factors of {name!r} have more than {highest} ranks, both sides' sum")
    return concatenate(parts) if len(parts) > 1 else parts[0]
