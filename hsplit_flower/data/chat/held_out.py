"""Which conversations are held out of training: the same ones wherever it is asked."""

from collections.abc import Iterable, Sequence
from zlib import crc32

from ...errors import ConfigError, DataError
from .conversation import Conversation

Sides = tuple[list[Conversation], list[Conversation]]
"""To train on, and held out."""

_CHECKSUMS = 2**32


def held_out_split(conversations: Sequence[Conversation], share: float) -> Sides:
    """Those to train on, and those that are held out, each in the order given.

    A conversation is held out by a checksum of its text, so equal ones are never on both sides, and
    are on the same side in another set. Where the checksum leaves a side empty, it gets the text
    that is nearest to it, which another set may have on the other side: the parts of one set are
    `held_out_of_parts`.

    Parameters
    ----------
    share
        About so much is held out; between 0 and 1.

    Raises
    ------
    ConfigError
        If `share` is no such number.
    DataError
        If there are fewer than two different conversations.
    """
    return _sides(conversations, _are_held_out(conversations, share), range(len(conversations)))


def held_out_of_parts(
    conversations: Sequence[Conversation], parts: Sequence[Sequence[int]], share: float
) -> list[Sides]:
    """The two sides of each part of a set: what is held out of the whole, no part trains on.

    A small part may have nothing to train on, or nothing that is held out.

    Parameters
    ----------
    conversations
        The whole set.
    parts
        Which of them each part has.
    share
        As for `held_out_split`, which says what is held out of the whole.

    Raises
    ------
    ConfigError, DataError
        As `held_out_split` does for the whole.
    """
    are_held_out = _are_held_out(conversations, share)
    return [_sides(conversations, are_held_out, part) for part in parts]


def _sides(
    conversations: Sequence[Conversation], are_held_out: Sequence[bool], part: Iterable[int]
) -> Sides:
    sides: Sides = ([], [])
    for index in part:
        sides[are_held_out[index]].append(conversations[index])
    return sides


def _are_held_out(conversations: Sequence[Conversation], share: float) -> list[bool]:
    """Of each, whether it is held out; there are some of both."""
    if not 0 < share < 1:
        raise ConfigError(f"the share that is held out must be between 0 and 1, got {share}")
    sums = [_checksum(each) for each in conversations]
    lowest, highest = min(sums, default=0), max(sums, default=0)
    if lowest == highest:
        raise DataError(
            f"{len(conversations)} conversations, and fewer than two that differ: some to train on "
            "and some to hold out are wanted"
        )
    border = min(max(share * _CHECKSUMS, lowest + 1), highest)
    return [its_sum < border for its_sum in sums]


def _checksum(conversation: Conversation) -> int:
    turns = [part for turn in conversation.messages for part in (turn.role, turn.content)]
    # What no text holds parts them, so that two conversations are not one by chance.
    return crc32("\0".join([*turns, conversation.text]).encode())
