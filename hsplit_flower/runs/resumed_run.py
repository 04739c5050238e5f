"""A run that goes on in its folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..server.past_run import PastRun, read_past_run
from ..settings import RunSettings
from .run_config import RunConfig

# What may be another one than before: it changes who runs where and for how long, and not what is
# learnt in a round.
FREE = frozenset(
    {
        "adapter",
        "adapter-dtype",
        "client-threads",
        "evaluation-examples",
        "num-server-rounds",
        "output-dir",
        "resume",
        "round-timeout-seconds",
        "run-name",
        "server-evaluation",
        "tensorboard",
    }
)
FREE_GROUPS = frozenset({"client", "worker", "sampling"})
# What crosses the cut is learnt from; how patiently it is waited for, and in what pieces, is not.
FREE_OF_GROUPS = {
    # Of no round.
    "training": frozenset({"personalise-steps"}),
    "link": frozenset({"max-message-mb", "step-timeout-seconds", "patience-seconds"}),
}


def read_resumed(config: RunConfig, settings: RunSettings) -> PastRun | None:
    """The run that this one goes on with, if it does.

    Parameters
    ----------
    config
        Of the run's app.
    settings
        Of the run, as its method has completed them.

    Raises
    ------
    ConfigError
        If the folder holds no run that can go on, or one that was set otherwise: its key and both
        values, for every difference.
    """
    if not config.app.resume:
        return None
    past = read_past_run(Path(config.app.resume))
    now = config.shown(settings)
    problems = [
        f"{key} is {now_value!r} and was {then!r} there"
        for key, then, now_value in _differences(past.config, now)
    ]
    if problems:
        raise ConfigError.listing(
            f"resume={config.app.resume!r} goes on with the settings of that run, and this run",
            problems,
        )
    return past


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Key, value of the run that was, and of this one; what was not known then is as it was."""
    for key, value in now.items():
        if key in FREE or key in FREE_GROUPS or key not in then:
            continue
        if not isinstance(value, Mapping):
            if then[key] != value:
                yield key, then[key], value
            continue
        for own, inner in value.items():
            if own in FREE_OF_GROUPS.get(key, ()):
                continue
            before = then[key].get(own, inner)
            if before != inner:
                yield f"{key}.{own}", before, inner
