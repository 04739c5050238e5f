"""The user's batches, checked: what comes from outside is what training expects."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import DataError
from ..metrics import count_label_tokens
from ..splitting import Architecture
from ..types import IGNORED_LABEL

REQUIRED = ("input_ids", "attention_mask", "labels")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Token ids, mask and labels; labels are aligned with the ids, the model shifts them."""

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    labels: Int[Tensor, "batch seq"]

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
        fields = (self.input_ids, self.attention_mask, self.labels)
        return [
            Batch(input_ids=ids, attention_mask=mask, labels=labels)
            for ids, mask, labels in zip(*(field.split(size) for field in fields), strict=True)
        ]


def checked(
    batches: Iterable[Mapping[str, Any]],
    architecture: Architecture,
    *,
    is_training: bool,
    max_tokens: int | None = None,
) -> Iterator[Batch]:
    """The user's batches one by one, each refused by its number if it does not fit.

    Parameters
    ----------
    batches
        As the user makes them.
    architecture
        Of the model, which they must fit.
    is_training
        Whether there must be something to learn.
    max_tokens
        Of a batch, padding included, which the plan is made for; None where there is no plan.

    Raises
    ------
    DataError
        Naming the batch, what was got and what was wanted; also if there is no batch at all.
    """
    number = 0
    for number, fields in enumerate(batches, start=1):
        try:
            batch = _check(fields, architecture, is_training=is_training)
            _check_size(batch, max_tokens)
            yield batch
        except DataError as error:
            raise DataError(f"batch {number}: {error}") from error
    if number == 0:
        raise DataError(
            "no batches: this client's partition is empty, one example or more is wanted"
        )


def _check_size(batch: Batch, max_tokens: int | None) -> None:
    rows, columns = batch.shape
    if max_tokens is not None and rows * columns > max_tokens:
        raise DataError(
            f"{rows} examples of up to {columns} tokens are {rows * columns} tokens with padding, "
            f"and the run is planned for {max_tokens} in a batch, which is training.batch-size "
            "times training.sequence-length: make smaller batches on the client, or raise these "
            "on the server"
        )


def _check(fields: Mapping[str, Any], architecture: Architecture, *, is_training: bool) -> Batch:
    if missing := [name for name in REQUIRED if name not in fields]:
        raise DataError(f"has no {missing}: {list(REQUIRED)} are wanted, got {sorted(fields)}")
    try:
        tensors = {name: torch.as_tensor(fields[name]) for name in REQUIRED}
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"is not three arrays of whole numbers: {error}") from error
    shape = tuple(tensors["input_ids"].shape)
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tuple(tensor.shape) != shape or tensor.is_floating_point():
            raise DataError(
                f"{name} has shape {list(tensor.shape)} and {tensor.dtype}: whole numbers of "
                f"shape {list(shape) if len(shape) == 2 else '[batch, seq]'} are wanted"
            )
    if 0 in shape:
        raise DataError(f"is empty: shape {list(shape)}")
    if not architecture.has_positions(shape[1]):
        raise DataError(
            f"a sequence of {shape[1]} tokens is longer than the model's "
            f"{architecture.max_positions} positions: lower training.sequence-length"
        )
    ids = tensors["input_ids"]
    if bool(((ids < 0) | (ids >= architecture.vocabulary_size)).any()):
        raise DataError(
            f"token ids must be in [0, {architecture.vocabulary_size}): "
            "is this the model's own tokenizer?"
        )
    mask = tensors["attention_mask"].long()
    if bool(((mask < 0) | (mask > 1)).any()) or not bool(mask.any(dim=1).all()):
        raise DataError("attention_mask must hold zeros and ones, and at least one 1 in every row")
    labels = tensors["labels"].long()
    targets = labels[labels != IGNORED_LABEL]
    if bool(((targets < 0) | (targets >= architecture.vocabulary_size)).any()):
        raise DataError(f"labels must be {IGNORED_LABEL} or in [0, {architecture.vocabulary_size})")
    if is_training and count_label_tokens(labels) == 0:
        raise DataError(f"no token has a label: some labels other than {IGNORED_LABEL} are wanted")
    return Batch(input_ids=ids.long(), attention_mask=mask, labels=labels)
