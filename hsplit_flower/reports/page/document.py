"""The page about one run, or about several over each other: one file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ...errors import ConfigError
from ..run import Run
from .markup import text
from .section import Section, Table
from .sections.absences import absences
from .sections.chosen import chosen, differences
from .sections.headline import Headline, comparison, headline
from .sections.importance import importance
from .sections.memory import memory
from .sections.placement import placement
from .sections.quality import quality
from .sections.seconds import seconds
from .sections.sites import sites
from .sections.traffic import traffic

TEMPLATE_FILE, STYLE_FILE = "page.html", "page.css"

LONG = 24
"""Characters of a text that is given room in a table on a phone."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """All about one run."""

    name: str
    anchor: str
    headline: Headline
    sections: tuple[Section, ...]


def page(runs: Sequence[Run]) -> str:
    """The page as HTML.

    Of one run it has every section; of several their quality over each other, what they came to and
    where their settings differ, and then a chapter for each.

    Raises
    ------
    ConfigError
        If there is no run.
    """
    if not runs:
        raise ConfigError("there is no run to report on: give the folder of one")
    runs = with_own_names(runs)
    together = quality(runs)
    if len(runs) > 1:
        tables = (comparison(runs), differences(runs), *together.tables)
        together = replace(together, tables=tables)
    chapters = [_chapter(run, number, len(runs)) for number, run in enumerate(runs, start=1)]
    here = files(__package__)
    return (
        _environment()
        .from_string((here / TEMPLATE_FILE).read_text(encoding="utf-8"))
        .render(
            title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
            style=Markup((here / STYLE_FILE).read_text(encoding="utf-8")),
            together=together,
            chapters=chapters,
            version=version("hsplit-flower"),
        )
    )


def with_own_names(runs: Sequence[Run]) -> list[Run]:
    """Runs whose folders have one name are told apart by a number."""
    named: list[Run] = []
    for run in runs:
        name, number = run.name, 1
        while name in {other.name for other in named}:
            number += 1
            name = f"{run.name} ({number})"
        named.append(replace(run, name=name))
    return named


def _chapter(run: Run, number: int, num_runs: int) -> Chapter:
    """Every section but quality, which all runs share."""
    prefix = "" if num_runs == 1 else f"run{number}-"
    sections = (sites, placement, importance, memory, seconds, traffic, absences, chosen)
    return Chapter(
        name=run.name,
        anchor=f"run{number}",
        headline=headline(run),
        sections=tuple(
            replace(section, anchor=f"{prefix}{section.anchor}")
            for section in (make(run) for make in sections)
        ),
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )
    environment.globals |= {"is_text": _is_text, "LONG": LONG}
    return environment


def _shown(value: object) -> object:
    """Texts of others with no character that is invisible or turns others round."""
    return text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _is_text(table: Table, column: int) -> bool:
    return column < table.num_texts
