"""What an evaluation has found, as values, as JSON and as a table for people."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..metrics import NlgScores, TokenLoss
from .console import console, numbers_table

REPORT_FILE = "evaluation.json"
_TITLES = {
    "bleu": "BLEU",
    "nist": "NIST",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
}


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """The end of ``hsplit evaluate``.

    Attributes
    ----------
    folder
        Where it lies, with the texts.
    settings
        All that the texts depend on.
    num_inputs, num_references, num_empty
        Inputs, their references, and inputs for which nothing was written.
    num_examples, loss
        References that perplexity is measured on, and their tokens with what these cost.
    scores
        None where no metrics were asked for.
    """

    folder: Path
    settings: Mapping[str, Any]
    num_inputs: int
    num_references: int
    num_empty: int
    num_examples: int
    loss: TokenLoss
    scores: NlgScores | None

    def shown(self) -> dict[str, Any]:
        """As JSON has it."""
        metrics = None
        if self.scores is not None:
            metrics = {name.replace("_", "-"): getattr(self.scores, name) for name in _TITLES}
        return {
            "settings": dict(self.settings),
            "num-inputs": self.num_inputs,
            "num-references": self.num_references,
            "num-empty": self.num_empty,
            "num-examples": self.num_examples,
            "num-tokens": self.loss.num_tokens,
            "perplexity": self.loss.perplexity,
            "metrics": metrics,
        }

    def write(self) -> None:
        """Replace the report of the folder."""
        write_report(self.folder, self.shown())

    def print(self) -> None:
        """Print perplexity and scores in a line of a table, and what they are of."""
        cells = {"perplexity": f"{self.loss.perplexity:.4f}"}
        if self.scores is not None:
            cells |= {title: f"{getattr(self.scores, name):.4f}" for name, title in _TITLES.items()}
        out = console()
        out.print(numbers_table(cells, [cells.values()]))
        empty = f", {self.num_empty} of them with an empty text" if self.num_empty else ""
        out.print(
            f"\n{self.num_inputs} inputs{empty} with {self.num_references} references: "
            f"{self.settings['dataset']}, {self.settings['split']}"
        )
        left_out = self.num_references - self.num_examples
        if left_out:
            out.print(
                f"perplexity leaves out {left_out} references that are too long for the model"
            )
        out.print(f"texts and scores: {self.folder}")


def write_report(folder: Path, shown: Mapping[str, Any]) -> None:
    """Write what JSON has of a report in the place of the folder's, in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{REPORT_FILE}.new"
    fresh.write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")
    fresh.replace(folder / REPORT_FILE)
