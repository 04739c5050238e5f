"""``hsplit settings``: every setting of a run, as tables and as the page of the documentation."""

from collections.abc import Iterator, Mapping
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from ..settings import GROUPS, Chat, Device, NodeCertificates, OwnData, RunSettings
from ..settings.fields import Known
from ..settings.reading import keys_of
from .console import console
from .field_text import default_text, values_text

HEADER = ("key", "default", "may be", "unit", "what it is")
# What is typed; the rest is read, and may be wrapped.
UNBROKEN = ("key", "default")
PAGE_TITLE = "# Settings"
PAGE_INTRODUCTION = (
    "Every setting of a run by the key that a run-config has for it, as `hsplit settings "
    "--markdown` prints them from the fields in `hsplit_flower.settings`."
)
DEVICE = "device"
DEVICE_SENTENCE = (
    "What a client's node config may say of its device, and a fleet file of one; these are no keys "
    "of a run-config."
)
NODE = "node"
NODE_SENTENCE = (
    "What a client's node config may say of its channel to the worker; these are no keys of a "
    "run-config either."
)
CHAT = "chat"
CHAT_SENTENCE = (
    "How rows of conversations are read, and what of them is learnt: keys of apps/chat, and "
    "options of hsplit data."
)
OWN_DATA = "own data"
OWN_DATA_SENTENCE = (
    "What a client's node config may say of its rows, to apps/chat; these are no keys of a "
    "run-config either."
)
SENTENCES = {
    CHAT: CHAT_SENTENCE,
    DEVICE: DEVICE_SENTENCE,
    NODE: NODE_SENTENCE,
    OWN_DATA: OWN_DATA_SENTENCE,
}
# Sentences are wrapped where there is no terminal, too: they are not what a program reads.
WIDTH_OF_A_PIPE = 120


def command(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page that docs/settings.md is.")
    ] = False,
) -> None:
    """Show every setting of a run.

    By key: its default, what it may be, its unit, and what it is.
    """
    if markdown:
        print(as_markdown(), end="")
    else:
        print_tables()


def print_tables() -> None:
    """Print a table for each group."""
    out = console(WIDTH_OF_A_PIPE)
    for group, keys in _groups():
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for title in HEADER:
            table.add_column(title, overflow="fold", no_wrap=title in UNBROKEN)
        for field in keys.values():
            table.add_row(field.key, *_cells(field))
        out.print(f"{group}: {_sentence(group)}\n")
        out.print(table)
        out.print()


def as_markdown() -> str:
    """The page of the documentation."""
    lines = [PAGE_TITLE, "", PAGE_INTRODUCTION]
    for group, keys in _groups():
        lines += ["", f"## {group}", "", _sentence(group), ""]
        lines += [_row(HEADER), _row("---" for _ in HEADER)]
        lines += [
            _row(_in_markdown(cell) for cell in (f"`{key}`", *_cells(field)))
            for key, field in keys.items()
        ]
    return "\n".join(lines) + "\n"


def _groups() -> Iterator[tuple[str, Mapping[str, Known]]]:
    """Each group's name and keys, but for secrets, which no run-config has."""
    for name, group in GROUPS.items():
        yield name, keys_of({name: group})
    yield CHAT, keys_of({CHAT: Chat})
    yield DEVICE, keys_of({"": Device})
    yield NODE, keys_of({"": NodeCertificates})
    yield OWN_DATA, keys_of({"": OwnData})


def _cells(field: Known) -> tuple[str, str, str, str]:
    return default_text(field.default), values_text(field), field.unit, field.description


def _sentence(group: str) -> str:
    if group in SENTENCES:
        return SENTENCES[group]
    return RunSettings.model_fields[group].description or ""


def _row(cells: "Iterator[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _in_markdown(cell: str) -> str:
    return cell.replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")
