"""A model of which this device has a half only, as transformers' ``generate`` knows models.

It is an instance of the family's own class, so that prompts, positions, beams and streams are dealt
with by the family's code; its forward runs the half that is here, and asks for what follows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..splitting import Half


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the other half is shown of new tokens.

    Attributes
    ----------
    hidden
        After the last block of the device's half, ``[batch, new, hidden]``.
    mask
        Of the new tokens and of all before them; None where no row is padded.
    parents
        Which of the rows of before each row goes on with; None for its own.
    begins
        Whether these are the first tokens: all that was kept before is let go.
    """

    hidden: Tensor
    mask: Tensor | None
    parents: Tensor | None
    begins: bool


Follow = Callable[[Shown], Float[Tensor, "batch vocabulary"]]
"""Gives the logits of the token that follows each row."""


class FollowedCache(DynamicCache):
    """The device's keys and values, which remembers in which order rows were put."""

    parents: Tensor | None = None

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Go on with these of the rows, as beams are chosen."""
        super().reorder_cache(beam_idx)
        self.parents = beam_idx if self.parents is None else self.parents[beam_idx]

    def take_parents(self) -> Tensor | None:
        """The order since it was last taken."""
        parents, self.parents = self.parents, None
        return parents


def split_model(half: Half, follow: Follow) -> Any:
    """What has the family's ``generate`` and is run on both sides.

    Parameters
    ----------
    half
        Embeddings and the first blocks.
    follow
        Asks the other half.

    Raises
    ------
    UnsupportedModelError
        If its blocks keep no keys and values.
    """
    # Refuses what it cannot be, before anything is sent.
    half.new_cache()
    family = type(half.model)

    def forward(
        self: PreTrainedModel,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        **_: object,
    ) -> CausalLMOutputWithPast:
        cache = past_key_values
        if cache is None or cache.get_seq_length() == 0:
            cache = FollowedCache(config=self.config)
        assert isinstance(cache, FollowedCache)
        begins = cache.get_seq_length() == 0
        positions = position_ids if "position_ids" in half.architecture.inputs else None
        hidden = half.embed(input_ids, attention_mask, positions, cache=cache)
        shown = Shown(
            hidden=hidden, mask=attention_mask, parents=cache.take_parents(), begins=begins
        )
        logits = follow(shown).to(hidden.device)
        return CausalLMOutputWithPast(logits=logits[:, None], past_key_values=cache)

    kind = type(family.__name__, (family,), {"forward": forward, "__module__": family.__module__})
    model: Any = torch.nn.Module.__new__(kind)
    # The half's own modules, under another forward.
    model.__dict__ = {**vars(half.model), "generation_config": GenerationConfig()}
    return model
