"""What each key of the run-config may be, where its type alone does not say it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values that a key may have: a test, and how they are called in an error."""

    wanted: str
    holds: Callable[[Any], bool]


def _one_of(*choices: str) -> Range:
    return Range(wanted=f"one of {', '.join(map(repr, choices))}", holds=choices.__contains__)


def _at_least(least: int) -> Range:
    return Range(wanted=f"{least} or more", holds=lambda value: least <= value < math.inf)


_POSITIVE = Range(wanted="a positive number", holds=lambda value: 0 < value < math.inf)
_FRACTION = Range(wanted="a fraction from 0 to 1", holds=lambda value: 0 <= value <= 1)

RANGES: Mapping[str, Range] = {
    "dtype": _one_of("float32", "bfloat16", "float16"),
    "attention": _one_of("", "eager", "sdpa"),
    "partition": _one_of("iid", "dirichlet"),
    "dirichlet-alpha": _POSITIVE,
    "prompt": _one_of("plain", "brackets"),
    "max-length": _at_least(2),
    "num-server-rounds": _at_least(1),
    "local-steps": _at_least(1),
    "batch-size": _at_least(1),
    "learning-rate": _POSITIVE,
    "weight-decay": _at_least(0),
    "scale": _POSITIVE,
    "start": _one_of("continue", "restart"),
    "labels": _one_of("server", "client"),
    "seed": _at_least(0),
    "unavailable": _FRACTION,
    "lease-card-gb": _at_least(0),
    "min-cut": _at_least(1),
    "max-rank": _at_least(1),
    "rank-unit": _at_least(1),
    "worker-session-rank": _at_least(0),
    "global-rank-cap": _at_least(0),
    "server-momentum": Range(
        wanted="a number from 0 to below 1", holds=lambda value: 0 <= value < 1
    ),
    "drift-threshold": _at_least(0),
    "drift-cooldown": _at_least(0),
    "fraction-train": _FRACTION,
    "fraction-evaluate": _FRACTION,
    "min-train-nodes": _at_least(1),
    "min-available-nodes": _at_least(1),
    "round-timeout": _POSITIVE,
    "evaluation-examples": _at_least(1),
    "worker": _one_of("here", "ray"),
    "num-workers": _at_least(0),
    "worker-port": Range(wanted="a port from 0 to 65535", holds=lambda value: 0 <= value < 2**16),
    "worker-threads": _at_least(0),
    "client-threads": _at_least(0),
    "wire-type": _one_of("", "float32", "bfloat16", "float16", "int8"),
    "wire-gradient-type": _one_of("", "float32", "bfloat16", "float16", "int8"),
    "micro-batch-size": _at_least(0),
    "in-flight": _at_least(1),
    "cached-halves": _at_least(0),
    "max-message-mb": _at_least(1),
    "step-timeout": _POSITIVE,
    "session-timeout": _POSITIVE,
    "run-name": Range(
        wanted="a name without slashes", holds=lambda value: not set(value) & set("/\\")
    ),
}
