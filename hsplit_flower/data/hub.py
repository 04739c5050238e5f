"""A data set on the Hugging Face hub that has meaning representations and references.

Only data files are read; a data set that needs its own loading code is refused by `datasets`.
"""

from typing import TYPE_CHECKING

from ..errors import DataError
from ..sizes import counted
from .example import Example

if TYPE_CHECKING:
    from datasets import Dataset

_COLUMN_PAIRS = (("mr", "ref"), ("meaning_representation", "human_reference"))
_SPLIT_NAMES = {
    "train": ("train",),
    "dev": ("validation", "dev", "valid"),
    "test": ("test",),
}


def read_hub(dataset_id: str, split: str) -> list[Example]:
    """The examples of one split of a data set on the hub; downloads it unless it is cached.

    Raises
    ------
    DataError
        If the data set cannot be loaded, or lacks the split, the columns or some text.
    """
    return examples_of_table(hub_table(dataset_id, split), f"{dataset_id}, {split} split")


def hub_table(dataset_id: str, split: str) -> "Dataset":
    """One split of a data set on the hub; downloads it unless it is cached.

    Raises
    ------
    DataError
        If it cannot be loaded, or lacks the split.
    """
    import datasets

    try:
        splits = datasets.load_dataset(dataset_id)
    except Exception as error:  # the hub's client raises a dozen unrelated types
        # What is said of a network or of a file that is not there names nothing that a file holds.
        told = f": {error}" if isinstance(error, OSError) else ""
        raise DataError(
            f"tried datasets.load_dataset({dataset_id!r}) and got "
            f"{type(error).__name__}{told}; check the id and the network, or give a file",
            private_detail=str(error.__cause__ or error),
        ) from error
    for name in _SPLIT_NAMES[split]:
        if name in splits:
            return splits[name]
    raise DataError(
        f"{dataset_id} has no {split} split: got {sorted(splits)}, "
        f"wanted one of {list(_SPLIT_NAMES[split])}"
    )


def examples_of_table(table: "Dataset", place: str) -> list[Example]:
    """The examples of a table with a known pair of columns; `place` names it in errors."""
    for meaning_column, reference_column in _COLUMN_PAIRS:
        if {meaning_column, reference_column} <= set(table.column_names):
            break
    else:
        wanted = " or ".join(str(list(pair)) for pair in _COLUMN_PAIRS)
        raise DataError(
            f"{place} has {counted(len(table.column_names), 'column')}; wanted {wanted}",
            private_detail=str(table.column_names),
        )
    examples = []
    pairs = zip(table[meaning_column], table[reference_column], strict=True)
    for number, (meaning, reference) in enumerate(pairs, start=1):
        if not (isinstance(meaning, str) and isinstance(reference, str)):
            raise DataError(
                f"{place}, row {number} does not hold texts: {type(meaning).__name__} and "
                f"{type(reference).__name__}",
                private_detail=f"{meaning!r}, {reference!r}",
            )
        if not (meaning.strip() and reference.strip()):
            raise DataError(f"{place}, row {number} has an empty meaning or reference")
        examples.append(Example(meaning=meaning.strip(), reference=reference.strip()))
    if not examples:
        raise DataError(f"{place} has no rows; wanted at least one example")
    return examples
