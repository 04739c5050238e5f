"""Perplexity of a run's base with one adapter or another, on what nobody trained on."""

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

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
from ..server.past_run import CONFIG_FILE, PastRun, chat_of
from ..settings import Chat
from ..splitting import load_tokenizer
from .held_out_rows import are_conversations, read_held_out

NUM_EXAMPLES = 500


class DevSet:
    """A data set's dev split, or the conversations that are held out, read as the run read its own.

    Parameters
    ----------
    run
        Whose base, prompts, batches and lengths.
    dataset
        ``restaurants`` or a folder of CSVs; ``help-desk`` or a file of conversations; or a hub id,
        of whichever the run had.
    num_examples
        At most so many; None is as many as the run had.

    Raises
    ------
    DataError
        If it cannot be read, or has no example that is short enough.
    """

    def __init__(self, run: PastRun, dataset: str, num_examples: int | None = None) -> None:
        most = num_examples or run.config.get("evaluation-examples") or NUM_EXAMPLES
        max_length = run.training.sequence_length
        chat = chat_of(run.config, run.folder / CONFIG_FILE)
        if are_conversations(dataset, otherwise=chat is not None):
            tokenizer = _tokenizer(run)
            encoded = read_held_out(
                dataset, tokenizer, chat or Chat(), max_length=max_length, most=most
            ).encoded.examples
        else:
            examples = thinned(load_examples(dataset, "dev"), most)
            tokenizer = _tokenizer(run)
            style = run.config.get("prompt") or next(iter(PROMPT_STYLES))
            encoded = encode_examples(
                examples, tokenizer, max_length=max_length, style=style, on_long="drop"
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


def _tokenizer(run: PastRun) -> PreTrainedTokenizerBase:
    return load_tokenizer(run.model.name, revision=run.model.revision or None)
