"""Texts that a model writes, whole or split: transformers' own ``generate``, asked as settings say.

A model's folder says of decoding only which tokens end a text; all else is the caller's.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from ..data import end_token_id, pad_token_id, start_ids
from ..errors import DataError
from ..settings import Decoding
from ..splitting import Checkpoint


class TextWriter:
    """Writes on from prompts.

    Parameters
    ----------
    model
        One of transformers or PEFT, or a split one: what has their ``generate``.
    tokenizer
        The base's.
    end_ids
        Tokens that end a text, beside the tokenizer's own.
    positions
        How long prompt and text may be together, in tokens; None for any length.
    bound
        The setting that says so; empty where it is the model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        end_ids: Iterable[int] = (),
        positions: int | None = None,
        bound: str = "",
    ) -> None:
        self._model = model
        self.tokenizer = tokenizer
        self._end_ids = all_end_ids(tokenizer, end_ids)
        self._pad_id = pad_token_id(tokenizer)
        self._positions, self._bound = positions, bound

    def encoded(self, text: str) -> list[int]:
        """The token ids of a prompt, as a text begins."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*start_ids(self.tokenizer), *ids]

    def texts(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        *,
        streamer: BaseStreamer | None = None,
    ) -> list[str]:
        """What follows each prompt, without its special tokens.

        Parameters
        ----------
        prompts
            As token ids. Shorter ones are filled up on their left.
        decoding
            How tokens are chosen.
        streamer
            Is given tokens as they come; for one prompt, and one beam.

        Raises
        ------
        DataError
            If a prompt is empty, or leaves no room for a text in the model.
        """
        ids = self.token_ids(prompts, decoding, streamer=streamer)
        decoded: list[str] = self.tokenizer.batch_decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return decoded

    @torch.no_grad()
    def token_ids(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        *,
        streamer: BaseStreamer | None = None,
    ) -> Tensor:
        """The same as token ids, ``[batch, text]``, rows that ended early filled up."""
        if not prompts or not all(prompts):
            raise DataError("there is nothing to write on from: a prompt of some words is wanted")
        ids, mask = padded_left(prompts, self._pad_id)
        longest = ids.shape[1]
        with torch.random.fork_rng(enabled=decoding.draws):
            if decoding.draws:
                torch.manual_seed(decoding.seed)
            written: Tensor = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=self._config(decoding, longest),
                streamer=streamer,
            )
        return written[:, longest:]

    def _config(self, decoding: Decoding, length: int) -> GenerationConfig:
        how: dict[str, Any] = {"do_sample": False, "num_beams": decoding.num_beams}
        if decoding.draws:
            how = {
                "do_sample": True,
                "temperature": decoding.temperature,
                "top_k": decoding.top_k,
                "top_p": decoding.top_p,
            }
        return GenerationConfig(
            use_cache=True,
            max_new_tokens=new_tokens_within(
                self._positions, length, decoding.max_new_tokens, bound=self._bound
            ),
            eos_token_id=self._end_ids,
            pad_token_id=self._pad_id,
            **how,
        )


def padded_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Prompts side by side, filled up on their left: ids and mask, ``[batch, longest]``."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def new_tokens_within(positions: int | None, length: int, most: int, *, bound: str = "") -> int:
    """How many tokens follow a prompt of so many: ``most``, or what there are positions for.

    ``bound`` is the setting that says how many these are; empty where it is the model.

    Raises
    ------
    DataError
        If it has none left.
    """
    if positions is None:
        return most
    if length >= positions and bound:
        raise DataError(
            f"a prompt has {length} tokens, and {bound} is {positions}, for prompt and text: give "
            "more, or a shorter prompt; a conversation is one prompt, so begin a new one"
        )
    if length >= positions:
        raise DataError(
            f"a prompt has {length} tokens, and the model has {positions} positions for prompt "
            "and text: a shorter prompt is wanted"
        )
    return min(most, positions - length)


def all_end_ids(tokenizer: PreTrainedTokenizerBase, more: Iterable[int]) -> list[int]:
    """The tokens that end a text: the tokenizer's own and ``more``."""
    return sorted({end_token_id(tokenizer), *more})


def end_ids_of(checkpoint: Checkpoint) -> list[int]:
    """The tokens that end a text, as a model's ``generation_config.json`` says; none without one.

    Models for chat end an answer with another token than a text.
    """
    try:
        said = GenerationConfig.from_pretrained(
            checkpoint.location, revision=checkpoint.revision or "main"
        ).eos_token_id
    except (OSError, ValueError):
        return []
    return [said] if isinstance(said, int) else list(said or [])
