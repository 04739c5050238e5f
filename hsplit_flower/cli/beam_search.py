"""Texts for prompts by beam search, a batch at a time."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..data import end_token_id, pad_token_id
from ..errors import DataError
from .evaluation_order import BeamOptions


class BeamSearch:
    """transformers' beam search with a model.

    Parameters
    ----------
    model, tokenizer
        Which write; the model is one of transformers or PEFT.
    options
        How texts are sought.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, options: BeamOptions
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._options = options
        self._pad_id, self._end_id = pad_token_id(tokenizer), end_token_id(tokenizer)

    @torch.no_grad()
    def texts(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """A text for each prompt, given as token ids.

        Prompts of about one length cost least: shorter ones are filled up on their left.

        Raises
        ------
        DataError
            If a prompt leaves no room for a text in the model.
        """
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), self._pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        written = self._model.generate(
            input_ids=ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            generation_config=self._config(longest),
        )
        decoded: list[str] = self._tokenizer.batch_decode(
            written[:, longest:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text.strip() for text in decoded]

    def _config(self, length: int) -> GenerationConfig:
        """For prompts of so many tokens; the model's own settings are not asked."""
        options = self._options
        beams: dict[str, Any] = {}
        if options.num_beams > 1:
            beams = {"num_beams": options.num_beams, "length_penalty": options.length_penalty}
        return GenerationConfig(
            do_sample=False,
            use_cache=True,
            no_repeat_ngram_size=options.no_repeat_ngram,
            max_new_tokens=min(options.max_new_tokens, self._room(length)),
            eos_token_id=self._end_id,
            pad_token_id=self._pad_id,
            **beams,
        )

    def _room(self, length: int) -> int:
        """How many tokens a model has positions for after so many."""
        positions = most_positions(self._model.config)
        if positions is None:
            return self._options.max_new_tokens
        if length >= positions:
            raise DataError(
                f"a prompt has {length} tokens, and the model has {positions} positions for prompt "
                "and text; take a shorter --prompt format, or leave the input out"
            )
        return positions - length


def most_positions(config: Any) -> int | None:
    """The longest text that a model is made for, if its configuration says."""
    return getattr(config, "max_position_embeddings", None)
