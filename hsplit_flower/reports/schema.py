"""What stands in ``metrics.jsonl`` and ``plan.json``, as a page for people made of the fields."""

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from .client_records import EvaluatedClient, LeftOut, PersonalisedClient, TrainedClient
from .markdown import cell
from .metrics import KINDS
from .plan import LeftOutNode, PlannedClient, PlanRecord
from .record import VERSION, Record

INTRODUCTION = f"""\
# What a run writes of itself

`metrics.jsonl` has a line for each round of training and each evaluation, `plan.json` the last
plan, `clients.csv` a row for each client in each round, and `summary.md` all of that in words, with
what noise is worth where a run has any (see the page on privacy).
Every line, and the plan, has `version` {VERSION}: it goes up when a key of before means
something else; keys may be added without that. In Python,
`hsplit_flower.reports.read_run(folder)` gives all of it as values.

Clients stand under their names: `name` in a node's config, or else its host and partition. Of
two that are called alike the later one is `clinic-a (2)`. The id that Flower gives a node
stands in the plan alone. Names are the clients' words: one line, cut at 40 characters, what is
not printed escaped.

Bytes to and from the worker are those of gRPC's messages with the five bytes before each,
counted by the client as they are serialised and received; the frames of HTTP/2 and TLS, below a
hundredth, are not in them. Bytes through Flower are those of the messages' records. A client's
seconds are its own measurements, bounded and otherwise believed; how long the worker had a
request says the worker. The bytes, tokens and seconds of a client that was dropped are those of
nobody: it has not told them.

This page is made by `python -m hsplit_flower.reports > docs/metrics.md`.
"""


def schema_markdown() -> str:
    """The page."""
    parts = [
        INTRODUCTION,
        *(text for kind in KINDS for text in _section(f"A line of kind {kind}", KINDS[kind])),
    ]
    for title, record in (
        ("A client in training", TrainedClient),
        ("A client in evaluation", EvaluatedClient),
        ("A client with an adapter of its own", PersonalisedClient),
        ("A client that was left out", LeftOut),
        ("The plan", PlanRecord),
        ("A client's part of the plan", PlannedClient),
        ("A client without a part in the plan", LeftOutNode),
    ):
        parts += _section(title, record)
    return "\n".join(parts)


def _section(title: str, record: type[Record]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| key | type | what it is |\n|---|---|---|"
    for name, field in record.model_fields.items():
        yield f"| `{name.replace('_', '-')}` | {cell(_type(field))} | {cell(field.description)} |"
    yield ""


def _type(field: FieldInfo) -> str:
    """In words of JSON."""
    return _words(field.annotation)


def _words(annotation: Any) -> str:
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    names |= {type(None): "null"}
    if annotation in names:
        return names[annotation]
    origin = getattr(annotation, "__origin__", None)
    inner: tuple[Any, ...] = getattr(annotation, "__args__", ())
    if origin is dict:
        return f"by key: {_words(inner[1])}"
    if origin is tuple:
        return f"list of {_words(inner[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return "see below"
    if origin is not None and all(isinstance(each, str) for each in inner):
        return ", ".join(inner)
    return " or ".join(_words(each) for each in inner)
