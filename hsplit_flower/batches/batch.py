"""A batch of token ids, as training and evaluation take it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Token ids, mask and labels; labels are aligned with the ids, the model shifts them.

    ``position_ids`` are the tokens' positions where the user gives them. Without a mask they say
    which documents lie in a row: where they begin anew, another one begins, and attends to itself.
    """

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"] | None
    labels: Int[Tensor, "batch seq"]
    position_ids: Int[Tensor, "batch seq"] | None = None

    @property
    def num_examples(self) -> int:
        return len(self.input_ids)

    @property
    def shape(self) -> tuple[int, int]:
        """Examples, and tokens of the longest."""
        return self.input_ids.shape[0], self.input_ids.shape[1]

    def in_micro_batches(self, size: int) -> "list[Batch]":
        """The batch in parts of so many examples, the last one smaller; 0 leaves it whole."""
        if not 0 < size < self.num_examples:
            return [self]
        starts = range(0, self.num_examples, size)
        return [self._rows(slice(start, start + size)) for start in starts]

    def up_to(self, length: int) -> "Batch":
        """The first so many tokens of every row."""
        if length == self.shape[1]:
            return self
        return self._changed(lambda tensor: tensor[:, :length])

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device."""
        return self._changed(lambda tensor: tensor.to(device))

    def _rows(self, rows: slice) -> "Batch":
        return self._changed(lambda tensor: tensor[rows])

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        mask, positions = self.attention_mask, self.position_ids
        return Batch(
            input_ids=change(self.input_ids),
            attention_mask=None if mask is None else change(mask),
            labels=change(self.labels),
            position_ids=None if positions is None else change(positions),
        )
