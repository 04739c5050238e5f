"""Perplexity of a run's base with one adapter or another, on the dev set of a data set."""

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path

from ..adapters import LowRank
from ..data import (
    PROMPT_STYLES,
    batches,
    encode_examples,
    load_examples,
    pad_token_id,
    thinned,
)
from ..server import ServerEvaluation
from ..server.past_run import PastRun
from ..splitting import load_tokenizer

NUM_EXAMPLES = 500


class DevSet:
    """A data set's dev split, read as the run read its own.

    Parameters
    ----------
    run
        Whose base, prompts, batches and lengths.
    dataset
        ``restaurants``, a folder of CSVs, or a hub id.
    num_examples
        At most so many; None is as many as the run had.

    Raises
    ------
    DataError
        If it cannot be read, or has no example that is short enough.
    """

    def __init__(self, run: PastRun, dataset: str, num_examples: int | None = None) -> None:
        most = num_examples or run.config.get("evaluation-examples") or NUM_EXAMPLES
        examples = thinned(load_examples(dataset, "dev"), most)
        tokenizer = load_tokenizer(run.model.name, revision=run.model.revision or None)
        encoded = encode_examples(
            examples,
            tokenizer,
            max_length=run.training.sequence_length,
            style=run.config.get("prompt") or next(iter(PROMPT_STYLES)),
            on_long="drop",
        )
        self.num_examples = len(encoded)
        self._model = run.model
        self._passes = partial(
            batches, encoded, run.training.batch_size, pad_id=pad_token_id(tokenizer)
        )

    @cached_property
    def _base(self) -> ServerEvaluation:
        return ServerEvaluation(self._model, self._passes)

    def perplexity(self, updates: Mapping[str, LowRank]) -> float:
        """Of the base with these updates; of the base alone with none."""
        return self._base.evaluate(updates).perplexity

    def perplexity_of_model(self, folder: Path) -> float:
        """Of another model, computed with as the base is, and not quantised."""
        model = self._model.replace(
            name=str(folder), revision="", dtype=self._model.computes_in, computing_dtype=""
        )
        return ServerEvaluation(model, self._passes).evaluate({}).perplexity
