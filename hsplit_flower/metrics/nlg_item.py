"""One input of a test set: the text that a model wrote for it, and the texts that people wrote."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import DataError


@dataclass(frozen=True, kw_only=True)
class NlgItem:
    """A hypothesis with its references, of which each item may have another number.

    Raises
    ------
    DataError
        If there is no reference, or one without a text. A hypothesis may be empty: it matches
        nothing.
    """

    hypothesis: str
    references: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.references or not all(text.strip() for text in self.references):
            raise DataError(
                f"wanted one reference or more, each with a text, got {self.references!r} for the "
                f"hypothesis {self.hypothesis!r}; add a reference, or leave the item out"
            )

    def on_lines(self) -> "NlgItem":
        """The item with each of its texts on one line, as the programs that score it read them."""
        return NlgItem(
            hypothesis=_line(self.hypothesis), references=tuple(map(_line, self.references))
        )


def group_references(rows: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """All references of each input, from rows of (input, reference).

    Inputs stand in the order in which each comes first, and so do its references, whether or not
    its rows follow each other.
    """
    grouped: dict[str, list[str]] = {}
    for text, reference in rows:
        grouped.setdefault(text, []).append(reference)
    return {text: tuple(references) for text, references in grouped.items()}


def _line(text: str) -> str:
    return " ".join(text.splitlines()).strip()
