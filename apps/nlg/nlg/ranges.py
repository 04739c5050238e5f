"""What each key of the run-config may be, where its type alone does not say it."""

import re
from collections.abc import Mapping

from hsplit_flower.cli.limits import (
    A_MESSAGE_MB,
    A_PORT,
    NUM_THREADS,
    NUM_WORKERS,
    POSITIVE,
    Limit,
    at_least,
)
from hsplit_flower.settings.device import DEVICE_KEYS


def _one_of(*choices: str) -> Limit:
    return Limit(wanted=f"one of {', '.join(map(repr, choices))}", holds=choices.__contains__)


_MEMORY_GB = DEVICE_KEYS["memory-gb"]
_FRACTION = Limit(wanted="a fraction from 0 to 1", holds=lambda value: 0 <= value <= 1)

RANGES: Mapping[str, Limit] = {
    "dtype": _one_of("float32", "bfloat16", "float16"),
    "attention": _one_of("", "eager", "sdpa"),
    "partition": _one_of("iid", "dirichlet"),
    "dirichlet-alpha": POSITIVE,
    "prompt": _one_of("plain", "brackets"),
    "max-length": at_least(2),
    "num-server-rounds": at_least(1),
    "local-steps": at_least(1),
    "batch-size": at_least(1),
    "learning-rate": POSITIVE,
    "weight-decay": at_least(0),
    "lora-alpha": POSITIVE,
    "scale-rule": _one_of("lora", "rslora", "constant"),
    "start": _one_of("continue", "restart"),
    "labels": _one_of("server", "client"),
    "seed": at_least(0),
    "unavailable": _FRACTION,
    "lease-card-gb": Limit(
        wanted=f"0 or {_MEMORY_GB.least:g} to {_MEMORY_GB.most:g}",
        holds=lambda value: value == 0 or _MEMORY_GB.problem("", value) is None,
    ),
    "min-cut": at_least(1),
    "max-rank": at_least(1),
    "rank-unit": at_least(1),
    "worker-session-rank": at_least(0),
    "global-rank-cap": at_least(0),
    "server-momentum": Limit(
        wanted="a number from 0 to below 1", holds=lambda value: 0 <= value < 1
    ),
    "drift-threshold": at_least(0),
    "drift-cooldown": at_least(0),
    "fraction-train": _FRACTION,
    "fraction-evaluate": _FRACTION,
    "min-train-nodes": at_least(1),
    "min-available-nodes": at_least(1),
    "round-timeout": POSITIVE,
    "evaluation-examples": at_least(1),
    "worker": _one_of("here", "ray"),
    "num-workers": NUM_WORKERS,
    "worker-address": Limit(
        wanted="HOST:PORT or nothing",
        holds=lambda value: not value or bool(re.fullmatch(r"[^\s/]+:\d{1,5}", value)),
    ),
    "worker-port": A_PORT,
    "worker-threads": NUM_THREADS,
    "client-threads": NUM_THREADS,
    "wire-type": _one_of("", "float32", "bfloat16", "float16", "int8"),
    "wire-gradient-type": _one_of("", "float32", "bfloat16", "float16", "int8"),
    "micro-batch-size": at_least(0),
    "in-flight": at_least(1),
    "cached-halves": at_least(0),
    "max-message-mb": A_MESSAGE_MB,
    "step-timeout": POSITIVE,
    "session-timeout": POSITIVE,
    "run-name": Limit(
        wanted="a name without slashes", holds=lambda value: not set(value) & set("/\\")
    ),
}
