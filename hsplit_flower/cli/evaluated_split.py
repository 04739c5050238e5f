"""What a model is evaluated on: distinct inputs, all references of each, and both as token ids."""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ..data import (
    EncodedExample,
    Example,
    encode_examples,
    encode_prompts,
    load_examples,
    thinned,
)
from ..metrics import group_references


@dataclass(frozen=True, kw_only=True)
class EvaluatedSplit:
    """A split of a data set, or the part of it that is evaluated on.

    Attributes
    ----------
    references
        Of each input, in the data set's order.
    prompts
        What the model reads for each input.
    encoded
        Each reference with its prompt, for the perplexity; those that are too long are left out.
    """

    references: dict[str, tuple[str, ...]]
    prompts: dict[str, tuple[int, ...]]
    encoded: list[EncodedExample]

    @property
    def num_references(self) -> int:
        return sum(map(len, self.references.values()))

    def input_batches(self, batch_size: int) -> Iterator[list[str]]:
        """All inputs in batches of about equally long prompts, the longest first.

        What the memory does not hold is so found out at once. The batches depend on nothing that
        is done already, so that a text is the same whether or not a run was interrupted.
        """
        order = sorted(self.prompts, key=lambda text: -len(self.prompts[text]))
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]


def read_split(
    dataset: str,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    style: str,
    max_length: int,
    most_inputs: int | None = None,
) -> EvaluatedSplit:
    """Read and encode a split.

    Raises
    ------
    DataError
        If it cannot be read, or not with this prompt format.
    """
    rows = load_examples(dataset, split)
    references = group_references((row.meaning, row.reference) for row in rows)
    one_each = [Example(meaning=text, reference=own[0]) for text, own in references.items()]
    kept = thinned(one_each, most_inputs or len(one_each))
    references = {each.meaning: references[each.meaning] for each in kept}
    prompts = encode_prompts(kept, tokenizer, style=style)
    return EvaluatedSplit(
        references=references,
        prompts={each.meaning: ids for each, ids in zip(kept, prompts, strict=True)},
        encoded=encode_examples(
            [
                Example(meaning=text, reference=each)
                for text in references
                for each in references[text]
            ],
            tokenizer,
            max_length=max_length,
            style=style,
            on_long="drop",
        ),
    )
