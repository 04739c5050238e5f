"""Where examples come from: the built-in restaurants, a folder of CSV files, or a hub data set."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import DataError
from . import restaurants
from .e2e import read_e2e_folder
from .example import Example, parse_meaning
from .hub import read_hub

RESTAURANTS = "restaurants"
SPLITS = ("train", "dev", "test")

Row = TypeVar("Row")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_references(dataset: str) -> bool:
    """Whether a set by this name is one of inputs with references, and nothing else that we know.

    The id of a set on the hub does not say what is in it.
    """
    return dataset == RESTAURANTS or bool(dataset and Path(dataset).expanduser().is_dir())


def load_examples(dataset: str, split: str) -> list[Example]:
    """The examples of one split of a data set, in the data set's own order.

    Parameters
    ----------
    dataset
        ``"restaurants"``, the path of a folder of ``mr,ref`` CSV files, or a hub id as
        ``"owner/name"``. An existing folder comes before a hub id. Only a hub id may use the
        network.
    split
        ``"train"``, ``"dev"`` or ``"test"``.

    Raises
    ------
    DataError
        If it is none of the three, or cannot be read as what it is.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}; wanted one of {list(SPLITS)}")
    if dataset == RESTAURANTS:
        return restaurants.generate(split)
    folder = Path(dataset).expanduser()
    if dataset and folder.is_dir():
        return read_e2e_folder(folder, split)
    if _HUB_ID.fullmatch(dataset):
        return read_hub(dataset, split)
    raise DataError(
        f"unknown dataset {dataset!r}: wanted 'restaurants' (built in), an existing folder of CSV "
        f"files with the columns mr and ref (there is no folder {folder.absolute()}), "
        "or a hub id 'owner/name'"
    )


def thinned(examples: Sequence[Row], most: int) -> list[Row]:
    """At most so many of the examples, taken evenly: every one of the same distance."""
    return list(examples[:: max(1, len(examples) // most)][:most])


def describe(examples: Sequence[Example]) -> str:
    """What a list of examples holds, in one line: sizes, and how many have each attribute."""
    meanings = Counter(example.meaning for example in examples)
    summary = f"{len(examples)} examples of {len(meanings)} meanings"
    try:
        having = Counter({name: 0 for meaning in meanings for name, _ in parse_meaning(meaning)})
        for meaning, count in meanings.items():
            having.update({name: count for name, _ in parse_meaning(meaning)})
    except DataError:
        return summary + " (free text)"
    shares = (f"{name} {count / len(examples):.0%}" for name, count in having.most_common())
    return f"{summary}: {', '.join(shares)}" if examples else summary
