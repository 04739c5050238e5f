"""What a run was set to, by group and key; and where several runs differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....settings import GROUPS
from ...model_card import public_setting
from ...run import Run
from ..numbers import NONE, count_text
from ..section import Section, Table

UNSET = "not set"


def chosen(run: Run) -> Section:
    """What differs from the defaults, and then everything."""
    values = dict(flattened(run.config))
    others = [(key, value, default) for key, value, default in _changed(values)]
    tables = []
    if others:
        tables.append(
            Table(
                title="Other than the library's defaults",
                header=("setting", "here", "default"),
                rows=tuple(others),
                num_texts=3,
            )
        )
    if values:
        tables.append(
            Table(
                title=f"All {count_text(len(values), 'setting')}",
                header=("setting", "value"),
                rows=tuple(values.items()),
                num_texts=2,
                is_folded=True,
            )
        )
    answer = (
        "What each setting means is in docs/settings.md; hsplit settings prints it. Of "
        "paths only the last part is told."
        if values
        else "The run's folder has no settings."
    )
    return Section(anchor="settings", title="Settings", answer=answer, tables=tuple(tables))


def differences(runs: Sequence[Run]) -> Table:
    """The settings in which runs differ, but for where they were written."""
    flat = [dict(flattened(run.config)) for run in runs]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = tuple(
        (key, *(values.get(key, NONE) for values in flat))
        for key in keys
        if key not in ("run-name", "output-dir") and len({v.get(key) for v in flat}) > 1
    )
    return Table(
        title="Settings in which they differ",
        header=("setting", *(run.name for run in runs)),
        rows=rows or (("none", *(NONE for _ in runs)),),
        num_texts=1 + len(runs),
    )


def flattened(config: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its key, its value as a text."""
    for key, value in config.items():
        name = f"{group}.{key}" if group else key
        if isinstance(value, Mapping):
            yield from flattened(value, name)
        else:
            yield name, _text(value)


def _text(value: object) -> str:
    if value is None or value == "":
        return UNSET
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else public_setting(value)


def _changed(values: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for key, value in values.items():
        group, _, own = key.partition(".")
        known = {field.key: field for field in GROUPS[group].known()} if group in GROUPS else {}
        if own in known and not known[own].is_required:
            default = known[own].default
            plain = _text(default.value if hasattr(default, "value") else default)
            if plain != value:
                yield key, value, plain
