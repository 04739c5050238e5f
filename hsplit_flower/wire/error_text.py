"""A client's error as the text that Flower carries, and back.

Flower's errors are a code and a reason in words. The name of the error leads the words; bytes that
the strategy learns from follow it as ``key=value``.
"""

import re

from ..errors import (
    CertificateError,
    HSplitError,
    NoCardError,
    OutOfBudgetError,
    WorkerUnavailableError,
)

# As many digits as an exabyte has: a client's number must not become infinity here.
OUT_OF_BUDGET = re.compile(
    r"OutOfBudgetError\[predicted-bytes=(?P<predicted>\d{1,18}) "
    r"measured-bytes=(?P<measured>\d{1,18}) budget-bytes=(?P<budget>\d{1,18})\]"
)
MOST_NAME_CHARACTERS = 40
"""Of a client's name: a line of the log has room for more than one."""
SIGNATURE = re.compile(rf" \[client: (?P<name>[^\]]{{1,{MOST_NAME_CHARACTERS}}})\]$")
KNOWN = {kind.__name__: kind for kind in (NoCardError, WorkerUnavailableError, CertificateError)}
"""Kinds of errors, besides the one that is made of bytes, that the strategy learns from."""

MOST_CHARACTERS = 1000
"""Of somebody else's words that are shown: more would be a way to fill a disk."""


def one_line(words: str, most_characters: int = MOST_CHARACTERS) -> str:
    """Somebody else's words as one line: what is not printed is escaped, what is too long is cut.

    Nothing in it can pass for a line of our own, or steer a terminal.
    """
    # Cut first as well: what is escaped grows tenfold.
    escaped = "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in words[: most_characters + 1]
    )
    if len(escaped) <= most_characters:
        return escaped
    return f"{escaped[:most_characters]}… ({len(words)} characters)"


def signed(reason: str, client_name: str) -> str:
    """A client's words with its name: an error carries nothing else that says whose it is."""
    return f"{reason} [client: {one_line(client_name, MOST_NAME_CHARACTERS)}]"


def signature(reason: str) -> tuple[str, str]:
    """The words without the name, and the name; an empty one where there is none."""
    found = SIGNATURE.search(reason)
    return (reason[: found.start()], found["name"]) if found else (reason, "")


def write_error(error: HSplitError) -> str:
    """Why a client cannot do its part, in words that `read_error` understands."""
    name = type(error).__name__
    if isinstance(error, OutOfBudgetError):
        name += (
            f"[predicted-bytes={error.predicted_bytes:.0f} "
            f"measured-bytes={error.measured_bytes:.0f} budget-bytes={error.budget_bytes:.0f}]"
        )
    return f"{name}: {error}"


def read_error(reason: str) -> HSplitError:
    """The error that a client answered with; an `HSplitError` with its words if it is another.

    The words are the client's: they become one line, and not a long one.
    """
    reason = one_line(reason)
    name, _, words = reason.partition(": ")
    if words and name in KNOWN:
        return KNOWN[name](words)
    found = OUT_OF_BUDGET.match(reason)
    if found is None:
        return HSplitError(reason)
    return OutOfBudgetError(
        predicted_bytes=float(found["predicted"]),
        measured_bytes=float(found["measured"]),
        budget_bytes=float(found["budget"]),
    )
