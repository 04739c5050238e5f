"""What a setting may be; what it may not is told in the words that were typed.

Everything that is wrong is told at once, before anything is imported that takes seconds.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..types import HIGHEST_PORT


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The values that a setting may have: a test, and how they are called in an error."""

    wanted: str
    holds: Callable[[Any], bool]


POSITIVE = Limit(wanted="a positive number", holds=lambda value: 0 < value < math.inf)
A_PORT = Limit(
    wanted=f"a port from 0 to {HIGHEST_PORT}", holds=lambda value: 0 <= value <= HIGHEST_PORT
)


def between(least: int, most: int) -> Limit:
    """A limit for numbers with two ends, which belong to it."""
    return Limit(wanted=f"{least} to {most}", holds=lambda value: least <= value <= most)


# Protobuf's own limit is 2 GiB. More threads or workers than these are a mistake.
A_MESSAGE_MB = between(1, 2047)
NUM_THREADS = between(0, 1024)
NUM_WORKERS = between(0, 1024)


def at_least(least: int) -> Limit:
    """A limit for numbers from ``least`` on."""
    return Limit(wanted=f"{least} or more", holds=lambda value: least <= value < math.inf)


def option_name(name: str) -> str:
    """An option as it is typed: ``--rank-unit`` for ``rank_unit``."""
    return f"--{name.replace('_', '-')}"


def out_of_limits(options: argparse.Namespace, limits: Mapping[str, Limit]) -> list[str]:
    """What is wrong with the options, one sentence each."""
    return [
        f"{option_name(name)} is {value}: {limit.wanted} is wanted"
        for name, limit in limits.items()
        if not limit.holds(value := getattr(options, name))
    ]


def refuse(problems: Sequence[str]) -> None:
    """Raise what is wrong, if anything is.

    Raises
    ------
    ConfigError
        With one problem in its line, or a line for each of several.
    """
    if len(problems) == 1:
        raise ConfigError(problems[0])
    if problems:
        raise ConfigError.listing("the command line", problems)
