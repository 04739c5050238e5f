"""What a plan says of a client, in words."""

from typing import Final

from ..sizes import size_text
from ..types import Shortfall

RECOMPUTED: Final = "*"
"""Marks a cut whose blocks are run once more in the backward pass."""


def left_out_text(name: str, shortfall: Shortfall) -> str:
    """Why a client has no part in a plan."""
    return (
        f"client {name} is left out: its smallest part needs {size_text(shortfall.needed_bytes)}, "
        f"it has {budget_text(shortfall)} and lacks {size_text(shortfall.lacking_bytes)}"
    )


def budget_text(shortfall: Shortfall) -> str:
    """What a device has that is left out, and how much of it is planned for, if not all."""
    own = size_text(shortfall.budget_bytes)
    if shortfall.correction == 1.0:
        return own
    return f"{own} (planned for 1/{shortfall.correction:.2f} of it)"
