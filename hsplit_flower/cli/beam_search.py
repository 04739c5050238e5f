"""Texts for prompts by beam search, a batch at a time."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..client.text_writer import all_end_ids, new_tokens_within, padded_left
from ..data import pad_token_id
from .evaluation_order import BeamOptions


class BeamSearch:
    """transformers' beam search with a model.

    Parameters
    ----------
    model, tokenizer
        Which write; the model is one of transformers or PEFT.
    options
        How texts are sought.
    end_ids
        Tokens that end a text, beside the tokenizer's own.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        options: BeamOptions,
        *,
        end_ids: Iterable[int] = (),
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._options = options
        self._pad_id, self._end_ids = pad_token_id(tokenizer), all_end_ids(tokenizer, end_ids)

    @torch.no_grad()
    def texts(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """A text for each prompt, given as token ids.

        Prompts of about one length cost least: shorter ones are filled up on their left.

        Raises
        ------
        DataError
            If a prompt leaves no room for a text in the model.
        """
        ids, mask = padded_left(prompts, self._pad_id)
        longest = ids.shape[1]
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
            max_new_tokens=new_tokens_within(
                most_positions(self._model.config), length, options.max_new_tokens
            ),
            eos_token_id=self._end_ids,
            pad_token_id=self._pad_id,
            **beams,
        )


def most_positions(config: Any) -> int | None:
    """The longest text that a model is made for, if its configuration says."""
    return getattr(config, "max_position_embeddings", None)
