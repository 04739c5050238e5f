"""What a page is made of: sections with a sentence, pictures, and tables that say the same."""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture, what it is called, and how it is read."""

    title: str
    svg: Markup
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under a header.

    Attributes
    ----------
    title, header, rows
        What is shown.
    num_texts
        So many columns, from the left, hold texts; the others hold numbers.
    is_folded
        Whether it is closed until a reader asks for it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_texts: int = 1
    is_folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """One question about a run: its answer in words, then in pictures, then in numbers."""

    anchor: str
    title: str
    answer: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
