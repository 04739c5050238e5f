"""What ``hsplit data`` prints: numbers, and one text on the user's own terminal alone."""

import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from ..data import EncodedExample
from ..sizes import counted
from ..types import IGNORED_LABEL
from .console import console
from .read_data import DataFound

MOST_BINS = 12
"""Of one width."""
FAR = 2
"""Rows of so many times the median's tokens are no reason for wider bins."""
BAR = 40
LEARNT_STYLE = "bold green"
MASKED_STYLE = "dim"


def print_report(found: DataFound, example: int) -> None:
    """Print what was found; of the rows kept, that of this number is shown, the first is 1."""
    out, kept = console(), found.fitted
    for line in summary_lines(found):
        out.print(line)
    out.print()
    out.print(_histogram(found))
    if not example:
        return
    out.print()
    if not sys.stdout.isatty():
        out.print("A row is shown on a terminal only; this is none.")
    elif example > len(kept.examples):
        out.print(f"There is no row {example} to show: {len(kept.examples)} are kept.")
    else:
        place = found.conversations[kept.places[example - 1]].place
        out.print(f"{place}; what is learnt is in colour:")
        out.print(coloured(found, kept.examples[example - 1]))


def summary_lines(found: DataFound) -> Iterator[str]:
    """Rows, tokens, and what becomes of them, a line each."""
    counts = found.fitted.counts
    num_texts = sum(not one.messages for one in found.conversations)
    kinds = {"conversation": counts.num_rows - num_texts, "text": num_texts}
    told = " and ".join(counted(number, kind) for kind, number in kinds.items() if number)
    yield f"{found.file}: {told}"
    if kinds["conversation"]:
        own = "a plain one, as the tokenizer has none" if found.template.is_plain else "its own"
        yield f"chat template: {own}; {_end_of_answers(found)}"
    becomes = {"drop": "left out", "truncate": "cut", "error": "which a run refuses"}
    yield (
        f"too long: {counted(counts.num_long, 'row')} with more than {found.max_length} tokens, "
        f"{becomes[found.on_long]}"
    )
    if counts.num_without_answer:
        yield f"without anything to learn: {counted(counts.num_without_answer, 'row')}, left out"
    kept = counted(len(found.fitted.examples), "row")
    yield f"kept: {kept} with {counted(counts.num_tokens, 'token')}"
    masked = counts.num_tokens - counts.num_learnt_tokens
    yield (
        f"learnt: {counted(counts.num_learnt_tokens, 'token')}, {counts.learnt_share:.0%}; "
        f"masked: {masked}, which are read and not learnt"
    )


def histogram_rows(found: DataFound) -> Iterator[tuple[str, str, str, str]]:
    """How many rows have about so many tokens; those that are too long are marked."""
    lengths = [len(one) for one in found.encoded]
    ends = bin_ends(lengths)
    bins = Counter(bisect_left(ends, length) for length in lengths)
    most = max(bins.values())
    for at, last in enumerate(ends):
        first = ends[at - 1] + 1 if at else 1
        bar = "█" * -(-bins[at] * BAR // most)
        is_long = last > found.max_length
        note = "" if not is_long else "too long" if first > found.max_length else "some too long"
        yield f"{first}-{last}", str(bins[at]), bar, note if bins[at] else ""


def _histogram(found: DataFound) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("tokens", justify="right")
    table.add_column("rows", justify="right")
    table.add_column(min_width=BAR)
    table.add_column()
    for cells in histogram_rows(found):
        table.add_row(*cells)
    return table


def coloured(found: DataFound, example: EncodedExample) -> Text:
    """A row's text, in which what is learnt stands out."""
    text = Text()
    for ids, is_learnt in _runs(example):
        written = _printable(str(found.tokenizer.decode(ids, skip_special_tokens=False)))
        text.append(written, style=LEARNT_STYLE if is_learnt else MASKED_STYLE)
    return text


def _runs(example: EncodedExample) -> Iterator[tuple[list[int], bool]]:
    """Tokens in a row that are learnt, or are not."""
    ids: list[int] = []
    before = False
    for token, label in zip(example.input_ids, example.labels, strict=True):
        is_learnt = label != IGNORED_LABEL
        if ids and is_learnt != before:
            yield ids, before
            ids = []
        ids, before = [*ids, token], is_learnt
    yield ids, before


def _printable(text: str) -> str:
    """What stands in a file does not move a terminal's cursor."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else f"\\x{ord(one):02x}" for one in text
    )


def _end_of_answers(found: DataFound) -> str:
    """What a model is taught to end an answer with."""
    ends = Counter(
        one.labels[last]
        for one in found.encoded
        if (last := max((at for at, label in enumerate(one.labels) if label >= 0), default=-1)) >= 0
    )
    ((token, _),) = ends.most_common(1) or [(-1, 0)]
    written = found.tokenizer.convert_ids_to_tokens(token) if token >= 0 else ""
    if written not in found.template.control_texts:
        return "nothing ends an answer, so that nothing teaches the model to stop"
    return f"an answer ends with {written}"


def bin_ends(lengths: Sequence[int]) -> list[int]:
    """The longest row of each bin: equal bins for most of the rows, then each twice as far.

    One huge row, or some, do not push all others into one bin.
    """
    in_order = sorted(lengths)
    median, most, longest = (
        in_order[len(in_order) // 2],
        in_order[len(in_order) * 9 // 10],
        in_order[-1],
    )
    width = 8
    while width * MOST_BINS < min(most, FAR * median):
        width *= 2
    ends = [width * number for number in range(1, MOST_BINS + 1)]
    while ends[-1] < longest:
        ends.append(min(2 * ends[-1], longest))
    return ends[: bisect_left(ends, longest) + 1]
