"""Keys and values of the tokens that a half has seen, so that each new token is run alone.

They lie in transformers' own cache, a layer for each block of the whole model, of which a half
fills those that it runs. The family's code asks the first layers how many tokens there were, and
how far masks reach; in a run of a span, layers of blocks in it answer for all.

Rows of several caches can run together: they are put side by side with their last tokens in one
column, shorter ones filled up on their left, where the mask has zeros.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from ..errors import UnsupportedModelError
from ..types import Span

CACHE = "past_key_values"
"""What a family's forward calls it."""
KINDS = (DynamicLayer, DynamicSlidingWindowLayer)


def new_cache(model: PreTrainedModel, inputs: frozenset[str]) -> DynamicCache:
    """An empty cache for a half.

    Parameters
    ----------
    model
        The half's, or a whole one.
    inputs
        What its forward takes, by name.

    Raises
    ------
    UnsupportedModelError
        If its blocks keep anything but keys and values of tokens, as the state of a recurrence.
    """
    cache = DynamicCache(config=model.config)
    others = {type(layer).__name__ for layer in cache.layers if type(layer) not in KINDS}
    if others or CACHE not in inputs:
        kept = " and ".join(sorted(others)) or "no keys and values"
        raise UnsupportedModelError(
            f"a model of type {model.config.model_type!r} cannot write texts in two halves: blocks "
            f"that keep keys and values of every token are wanted, and its own keep {kept}"
        )
    return cache


def seen_in(cache: Cache, span: Span) -> Cache:
    """A cache as the model's code must see it while it runs a span of the blocks.

    A layer outside answers as one inside does, of its own kind if there is one.
    """
    layers: list[Any] = cache.layers
    inside = layers[span.start : span.stop]
    stand_ins = {layer.is_sliding: layer for layer in reversed(inside)}
    return Cache(
        layers=[
            layer if index in span else stand_ins.get(layer.is_sliding, inside[0])
            for index, layer in enumerate(layers)
        ]
    )


def side_by_side(caches: Sequence[Cache], num_rows: Sequence[int]) -> Cache:
    """The rows of several caches as one; what a run adds is added to each."""
    if len(caches) == 1:
        return caches[0]
    layers: Any = zip(*(cache.layers for cache in caches), strict=True)
    return Cache(layers=[_LayersTogether(each, num_rows) for each in layers])


class _LayersTogether(CacheLayerMixin):
    """A block's layers in several caches, as one of their longest row."""

    def __init__(self, layers: Sequence[DynamicLayer], num_rows: Sequence[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._layers, self._num_rows = layers, list(num_rows)
        self.is_sliding = layers[0].is_sliding

    @property
    def _longest(self) -> DynamicLayer:
        return max(self._layers, key=lambda layer: layer.get_seq_length())

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Add to each its own rows, and give all of them, filled up on their left."""
        new = zip(
            self._layers,
            key_states.split(self._num_rows),
            value_states.split(self._num_rows),
            strict=True,
        )
        grown = [layer.update(keys, values) for layer, keys, values in new]
        keys, values = zip(*grown, strict=True)
        return _right_aligned(keys), _right_aligned(values)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: what it is made of begins by itself."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        sizes: tuple[int, int] = self._longest.get_mask_sizes(query_length)
        return sizes

    def get_seq_length(self) -> int:
        return int(self._longest.get_seq_length())

    def get_max_length(self) -> int:
        return int(self._longest.get_max_length())


def _right_aligned(states: Sequence[Tensor]) -> Tensor:
    """``[rows, heads, longest, width]`` of tensors ``[some rows, heads, length, width]``."""
    longest = max(each.shape[-2] for each in states)
    return torch.cat([pad(each, (0, 0, longest - each.shape[-2], 0)) for each in states])
