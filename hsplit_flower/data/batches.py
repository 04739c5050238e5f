"""Batches of encoded examples as padded tensors, for training and for evaluation.

Rows that hold several documents have positions in place of a mask.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..types import IGNORED_LABEL
from .chat.packing import PackedRow
from .encode import EncodedExample


def batches(
    encoded: Sequence[EncodedExample] | Sequence[PackedRow],
    batch_size: int,
    *,
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    pad_id: int,
    pad_to_multiple_of: int = 1,
) -> Iterator[dict[str, Tensor]]:
    """The batches of a round of training, or of one pass of evaluation.

    Each is a dict of ``input_ids``, ``attention_mask`` and ``labels``, int64, ``[batch, seq]``,
    padded on the right to its longest example. Of packed rows it has ``position_ids`` and no mask:
    what pads them is a document of its own.

    With `steps`, exactly so many full batches are drawn from endless passes, each in a new order
    that depends on `seed` and the number of the pass alone. A batch may hold the end of one pass
    and the beginning of the next, so a set smaller than the batch fills it too. Without `steps`,
    one pass in the given order, whose last batch may be smaller.

    A client that starts anew each round, as Flower's do, would see the first pass's beginning every
    time. It gives a seed of several numbers, one of them the round::

        batches(encoded, 16, steps=20, seed=(run_seed, server_round, partition_id), pad_id=pad_id)

    Parameters
    ----------
    steps
        How many batches to train on; ``None`` for evaluation.
    seed
        One number or several, each zero or more; unused in evaluation.
    pad_id
        The id that fills up ``input_ids``; the mask is 0 and the label -100 there.
    pad_to_multiple_of
        Rounds the padded length up to a multiple of this.

    Raises
    ------
    ConfigError
        If a number is out of range.
    DataError
        If there are no examples.
    """
    if pad_to_multiple_of < 1:
        raise ConfigError(f"pad_to_multiple_of must be 1 or more, got {pad_to_multiple_of}")
    rows = batch_rows(len(encoded), batch_size, steps=steps, seed=seed)
    return (_pad([encoded[row] for row in group], pad_id, pad_to_multiple_of) for group in rows)


def batch_rows(
    num_examples: int, batch_size: int, *, steps: int | None, seed: int | Sequence[int]
) -> Iterator[Sequence[int]]:
    """Which examples are in each batch; see `batches`.

    Raises
    ------
    ConfigError
        If a number is out of range.
    DataError
        If there are no examples.
    """
    seeds = (seed,) if isinstance(seed, int) else tuple(seed)
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more, got {batch_size}")
    if steps is not None and steps < 0:
        raise ConfigError(f"steps must be zero or more, or None for one pass, got {steps}")
    if any(number < 0 for number in seeds):
        raise ConfigError(f"seed must be of numbers zero or more, got {seeds}")
    if not num_examples:
        raise DataError("there are no examples to make batches of; wanted at least one")
    if steps is None:
        return _evaluation_rows(num_examples, batch_size)
    return islice(_training_rows(num_examples, batch_size, seeds), steps)


def _evaluation_rows(num_examples: int, batch_size: int) -> Iterator[Sequence[int]]:
    for start in range(0, num_examples, batch_size):
        yield range(start, min(start + batch_size, num_examples))


def _training_rows(
    num_examples: int, batch_size: int, seeds: Sequence[int]
) -> Iterator[Sequence[int]]:
    order = (row for epoch in count() for row in _epoch_order(num_examples, seeds, epoch))
    while True:
        yield list(islice(order, batch_size))


def _epoch_order(num_examples: int, seeds: Sequence[int], epoch: int) -> list[int]:
    order: list[int] = np.random.default_rng([*seeds, epoch]).permutation(num_examples).tolist()
    return order


def _pad(
    group: Sequence[EncodedExample | PackedRow], pad_id: int, multiple: int
) -> dict[str, Tensor]:
    longest = max(len(row) for row in group)
    shape = (len(group), -(-longest // multiple) * multiple)
    batch = {
        "input_ids": torch.full(shape, pad_id, dtype=torch.int64),
        "labels": torch.full(shape, IGNORED_LABEL, dtype=torch.int64),
    }
    mask = torch.zeros(shape, dtype=torch.int64)
    positions = torch.zeros(shape, dtype=torch.int64)
    for row, example in enumerate(group):
        length = len(example)
        batch["input_ids"][row, :length] = torch.tensor(example.input_ids)
        batch["labels"][row, :length] = torch.tensor(example.labels)
        mask[row, :length] = 1
        if isinstance(example, PackedRow):
            positions[row, :length] = torch.tensor(example.position_ids)
            positions[row, length:] = torch.arange(shape[1] - length)
    if isinstance(group[0], PackedRow):
        return {**batch, "position_ids": positions}
    return {**batch, "attention_mask": mask}
