"""Which weights may be adapted, named as PEFT's users name them."""

import difflib
from collections.abc import Sequence

from ..errors import ConfigError
from ..types import Weight

ALL_LINEAR = "all-linear"


def target_weights(
    weights: Sequence[Weight], names: Sequence[str] | None, *, model_type: str
) -> tuple[Weight, ...]:
    """The weights whose dotted path ends with one of the names; all of them where none is said.

    As in PEFT's ``target_modules``, a name is one or more whole parts of a path: ``q_proj`` or
    ``self_attn.q_proj``; ``all-linear`` is every linear layer of the blocks.

    Raises
    ------
    ConfigError
        Naming each that is no weight's, with the nearest that there is.
    """
    if names is None or ALL_LINEAR in names:
        return tuple(weights)
    endings = {weight.name: _endings(weight.name) for weight in weights}
    if unknown := [name for name in names if not any(name in own for own in endings.values())]:
        known = sorted({weight.name.rpartition(".")[2] for weight in weights})
        told = " and ".join(f"{name!r}{_nearest(name, known)}" for name in unknown)
        raise ConfigError(
            f"target-modules: no linear layer in the blocks of a {model_type} is called {told}; "
            f"there are {', '.join(known)}, and {ALL_LINEAR} for all of them"
        )
    wanted = frozenset(names)
    return tuple(weight for weight in weights if endings[weight.name] & wanted)


def _endings(path: str) -> frozenset[str]:
    """``a.b.c``, ``b.c`` and ``c`` of ``a.b.c``."""
    parts = path.split(".")
    return frozenset(".".join(parts[start:]) for start in range(len(parts)))


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.rpartition(".")[2], [*known, ALL_LINEAR], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
