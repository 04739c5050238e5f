"""What was measured on conversations, as JSON and as a table for people."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.chat import EncodingCounts
from ..metrics import TokenLoss
from ..rows import Learn, OnLong
from ..sizes import counted
from .console import console, numbers_table
from .evaluation_report import write_report
from .held_out_rows import ALL

NO_TEXTS = (
    "no texts are written, and BLEU, NIST, METEOR, ROUGE-L and CIDEr are not computed: they "
    "compare a text with all good ones for its input, and a conversation has one answer of many"
)
_MEASURED: Mapping[Learn, str] = {
    "answers": "the assistant's answers, each with the token that ends it",
    "last-answer": "the last answer of each conversation, with the token that ends it",
    "everything": "all that is said",
}
_LONG: Mapping[OnLong, str] = {"drop": "left out", "truncate": "cut", "error": "an error"}


@dataclass(frozen=True, kw_only=True)
class ConversationsReport:
    """The end of ``hsplit evaluate`` on conversations.

    Attributes
    ----------
    folder
        Where it lies.
    settings
        All that the perplexity depends on.
    learn, on_long, max_length
        Of these: what of a row is measured, and which rows are too long.
    num_rows, counts
        Rows of the whole set, and what became of those that were chosen.
    num_measured, loss
        Rows that perplexity is of, their tokens that are predicted, and what these cost.
    """

    folder: Path
    settings: Mapping[str, Any]
    learn: Learn
    on_long: OnLong
    max_length: int
    num_rows: int
    counts: EncodingCounts
    num_measured: int
    loss: TokenLoss

    def shown(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "settings": dict(self.settings),
            "num-rows": self.num_rows,
            "num-chosen": self.counts.num_rows,
            "num-long": self.counts.num_long,
            "num-without-answer": self.counts.num_without_answer,
            "num-measured": self.num_measured,
            "num-tokens": self.loss.num_tokens,
            "loss": self.loss.mean,
            "perplexity": self.loss.perplexity,
            "metrics": None,
            "why-no-metrics": NO_TEXTS,
        }

    def write(self) -> None:
        """Replace the report of the folder."""
        write_report(self.folder, self.shown())

    def print(self) -> None:
        """Print the perplexity in a table, and what it is of."""
        cells = {
            "perplexity": f"{self.loss.perplexity:.4f}",
            "nats a token": f"{self.loss.mean:.4f}",
            "tokens": str(self.loss.num_tokens),
            "rows": str(self.num_measured),
        }
        out = console()
        out.print(numbers_table(cells, [cells.values()]))
        out.print()
        for line in self._lines():
            out.print(line)

    def _lines(self) -> Iterator[str]:
        dataset, split = self.settings["dataset"], self.settings["split"]
        of = f"all {self.num_rows}"
        if split != ALL:
            share = self.settings["held-out-share"]
            of = f"about {share:g} of all {self.num_rows}, which a run holds out by a checksum"
        yield f"{dataset}, {split}: {counted(self.counts.num_rows, 'row')}, of {of}"
        yield f"measured: {_MEASURED[self.learn]}; of rows that are texts all of it"
        if self.counts.num_long:
            long = counted(self.counts.num_long, "row")
            yield (
                f"too long: {long} with more than {self.max_length} tokens, {_LONG[self.on_long]}"
            )
        if self.counts.num_without_answer:
            without = counted(self.counts.num_without_answer, "row")
            yield f"without anything to measure: {without}, left out"
        yield NO_TEXTS
        yield f"report: {self.folder}"
