"""Which conversations are held out of training: the same ones wherever it is asked."""

from collections.abc import Sequence
from zlib import crc32

from ...errors import ConfigError, DataError
from .conversation import Conversation

_CHECKSUMS = 2**32


def held_out_split(
    conversations: Sequence[Conversation], share: float
) -> tuple[list[Conversation], list[Conversation]]:
    """Those to train on, and those that are held out, each in the order given.

    A conversation is held out by a checksum of its text. So equal ones are never on both sides,
    and no part of a set trains on what is held out of the whole. Where the checksum leaves a side
    empty, it gets the text that is nearest to it.

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
    train = [one for one, its_sum in zip(conversations, sums, strict=True) if its_sum >= border]
    held_out = [one for one, its_sum in zip(conversations, sums, strict=True) if its_sum < border]
    return train, held_out


def _checksum(conversation: Conversation) -> int:
    turns = [part for turn in conversation.messages for part in (turn.role, turn.content)]
    # What no text holds parts them, so that two conversations are not one by chance.
    return crc32("\0".join([*turns, conversation.text]).encode())
