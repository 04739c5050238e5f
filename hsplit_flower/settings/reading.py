"""From keys and texts, as a run-config has them, to groups of settings.

A key is its group's name, a dot, and its field's name with dashes: ``planning.max-rank``. The
fields of a group without a name are keys by themselves. An empty text stands for a field's default,
whatever its type: Flower takes with ``--run-config`` only such keys as an app lists.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, get_args, get_origin

from ..errors import ConfigError
from .fields import Known, kinds_of
from .group import Settings, shown
from .presets import preset_values

DESCRIBED_IN = "docs/settings.md"
# What a run-config has as a number, or as true and false, where no quotes are around it.
_UNQUOTED = re.compile(r"[-+]?[\d_]*\.?\d[\d_]*([eE][-+]?\d+)?|true|false")


def as_key(name: str, value: object, wanted: str) -> str:
    """``rank-unit = 0: 1 or more is wanted``."""
    return f"{name} = {shown(value)}: {wanted} is wanted"


def _in_run_config(
    known: Mapping[str, Known], prefix: str, name: str, value: object, wanted: str
) -> str:
    """What is wrong with a group's field, by its key; a number in quotes is told to be a text."""
    key = _key(prefix, name)
    told, field = as_key(key, value, wanted), known.get(key)
    is_quoted = isinstance(value, str) and _UNQUOTED.fullmatch(value)
    if is_quoted and field is not None and field.kind != "text" and not field.choices:
        return f"{told}, and this is a text: leave out its quotes"
    return told


def keys_of(groups: Mapping[str, type[Settings]]) -> dict[str, Known]:
    """Every key that may be set, and its field."""
    return {
        f"{prefix}.{field.key}" if prefix else field.key: field
        for prefix, group in groups.items()
        for field in group.known()
        if not field.is_secret
    }


def read(
    groups: Mapping[str, type[Settings]],
    values: Mapping[str, Any],
    *,
    subject: str = "the run-config",
) -> dict[str, Settings]:
    """The groups that the values of a run-config make.

    Parameters
    ----------
    groups
        By the name that their keys begin with.
    values
        By key; what is not there is as a preset has it, if one is named, or has its default.
    subject
        What is said to have problems.

    Raises
    ------
    ConfigError
        Naming every key that is unknown, mistyped or out of range.
    """
    known = keys_of(groups)
    problems = [
        f"unknown key {shown(key)}{_near(str(key), known)}"
        for key in sorted(set(values) - set(known), key=str)
    ]
    chosen = {**preset_values(values.get("training.preset")), **_said(values)}
    made: dict[str, Settings] = {}
    for prefix, group in groups.items():
        own = {
            field.name: _value(field, chosen[key])
            for key, field in _keys_in(prefix, group)
            if key in chosen
        }
        one, wrong = group.read(own, partial(_in_run_config, known, prefix))
        problems += [_in_keys(problem, prefix, group) for problem in wrong]
        if one is not None:
            made[prefix] = one
    if problems:
        raise ConfigError.listing(subject, problems)
    return made


def _in_keys(problem: str, prefix: str, group: type[Settings]) -> str:
    """A problem of several fields, with their keys for their names."""

    def key(found: re.Match[str]) -> str:
        return _key(prefix, found[0])

    names = sorted(group.model_fields, key=len, reverse=True)
    for name in names:
        ahead = "" if "_" in name else r"(?= = | must )"
        problem = re.sub(rf"(?<![\w.-]){name}(?![\w-]){ahead}", key, problem)
    return problem


def _keys_in(prefix: str, group: type[Settings]) -> Iterable[tuple[str, Known]]:
    return keys_of({prefix: group}).items()


def _key(prefix: str, name: str) -> str:
    key = name.replace("_", "-")
    return f"{prefix}.{key}" if prefix else key


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that are left to their defaults."""
    return {key: value for key, value in values.items() if value != ""}


def _value(field: Known, value: Any) -> Any:
    """Lists of texts, which a run-config lacks, are one text with commas in it."""
    kinds = kinds_of(field.info.annotation)
    is_list = any(get_origin(kind) is tuple and str in get_args(kind) for kind in kinds)
    if is_list and isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _near(key: str, known: Mapping[str, Known]) -> str:
    """Which key may have been meant: a whole one, or one of another group or of none."""
    by_name = {name.rpartition(".")[2]: name for name in known}
    last = key.rpartition(".")[2]
    if last in by_name:
        return f", did you mean {by_name[last]!r}?"
    if close := difflib.get_close_matches(key, known, n=1, cutoff=0.75):
        return f", did you mean {close[0]!r}?"
    if close := difflib.get_close_matches(last, by_name, n=1):
        return f", did you mean {by_name[close[0]]!r}?"
    nearest = difflib.get_close_matches(key, known, n=3, cutoff=0.0)
    return f"; the nearest are {', '.join(nearest)}, and {DESCRIBED_IN} describes all of them"
