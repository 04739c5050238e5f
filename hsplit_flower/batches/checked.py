"""The user's batches, checked: what comes from outside is what training expects."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..errors import DataError
from ..metrics import count_label_tokens
from ..splitting import Architecture
from ..types import IGNORED_LABEL
from .batch import Batch
from .keys import taken_keys
from .whole_numbers import whole_numbers

logger = logging.getLogger(__name__)

ROWS_ARE_NONE = "; of a data set's rows hsplit_flower.data.collated makes batches with a collator"


def checked(
    batches: Iterable[Mapping[str, Any]],
    architecture: Architecture,
    *,
    is_training: bool,
    max_tokens: int | None = None,
) -> Iterator[Batch]:
    """The user's batches one by one, each refused by its number if it does not fit.

    Padding at the end of all rows is cut off, so that numbers do not depend on how much of it there
    is: some models compute other rotary frequencies for longer rows. In training, a batch in which
    no token has a label is passed over. What is ignored or passed over is said once.

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
        Naming the batch, what was got and what was wanted; also if there is no batch at all, or
        none to learn from.
    """
    number = num_passed_over = 0
    for number, batch in _numbered(batches, architecture, max_tokens):
        if is_training and count_label_tokens(batch.labels) == 0:
            if not num_passed_over:
                logger.warning("batch %s: no token has a label; such ones are passed over", number)
            num_passed_over += 1
        else:
            yield batch
    if number == 0:
        raise DataError(
            "no batches: this client's partition is empty, one example or more is wanted"
        )
    if num_passed_over == number:
        raise DataError(
            f"no token has a label: some labels other than {IGNORED_LABEL} are wanted, and none is "
            f"in {number} {'batch' if number == 1 else 'batches'}"
        )


def _numbered(
    batches: Iterable[Mapping[str, Any]], architecture: Architecture, max_tokens: int | None
) -> Iterator[tuple[int, Batch]]:
    """All that are batches of this model, counted from 1; says once what of them is ignored."""
    ignored: set[str] = set()
    for number, fields in enumerate(batches, start=1):
        try:
            values, others = taken_keys(fields, architecture.inputs)
            batch = _check(values, architecture)
            _check_size(batch, max_tokens)
        except DataError as error:
            told = f"batch {number}: {error}"
            raise DataError(told, private_detail=error.private_detail) from error
        if more := set(others) - ignored:
            ignored |= more
            logger.warning("batch %s: ignored are its %s", number, ", ".join(sorted(more)))
        yield number, batch


def _check_size(batch: Batch, max_tokens: int | None) -> None:
    rows, columns = batch.shape
    if max_tokens is not None and rows * columns > max_tokens:
        raise DataError(
            f"{rows} examples of up to {columns} tokens are {rows * columns} tokens with padding, "
            f"and the run is planned for {max_tokens} in a batch, which is training.batch-size "
            "times training.sequence-length: make smaller batches on the client, or raise these "
            "on the server"
        )


def _check(values: Mapping[str, Any], architecture: Architecture) -> Batch:
    tensors = {name: whole_numbers(name, value) for name, value in values.items()}
    shape = tuple(tensors["input_ids"].shape)
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tuple(tensor.shape) != shape:
            raise DataError(
                f"{name} has shape {list(tensor.shape)}: whole numbers of shape "
                f"{list(shape) if len(shape) == 2 else '[batch, seq]'} are wanted"
                f"{ROWS_ARE_NONE if tensor.ndim == 1 else ''}"
            )
    if 0 in shape:
        raise DataError(f"is empty: shape {list(shape)}")
    mask = tensors.get("attention_mask")
    if mask is not None:
        _check_mask(mask)
    batch = Batch(
        input_ids=tensors["input_ids"],
        attention_mask=mask,
        labels=tensors["labels"],
        position_ids=tensors.get("position_ids"),
    )
    batch = batch.up_to(_used_length(batch))
    _check_positions(batch, architecture)
    _check_tokens(batch, architecture.vocabulary_size)
    return batch


def _check_mask(mask: Tensor) -> None:
    if bool(((mask < 0) | (mask > 1)).any()) or not bool(mask.any(dim=1).all()):
        raise DataError(
            "attention_mask must hold zeros and ones, and at least one 1 in every row; documents "
            "in one row are kept apart by position_ids that begin anew with each, and no mask"
        )


def _used_length(batch: Batch) -> int:
    """Up to where any row has a token that is attended to, or a label."""
    if batch.attention_mask is None:
        return batch.shape[1]
    is_used = (batch.attention_mask.bool() | (batch.labels != IGNORED_LABEL)).any(dim=0)
    return int(is_used.nonzero().max()) + 1


def _check_positions(batch: Batch, architecture: Architecture) -> None:
    length = batch.shape[1]
    if batch.position_ids is not None:
        if bool((batch.position_ids < 0).any()):
            raise DataError("position_ids must be zero or more")
        length = int(batch.position_ids.max()) + 1
    if not architecture.has_positions(length):
        raise DataError(
            f"a sequence of {length} tokens is longer than the model's "
            f"{architecture.max_positions} positions: lower training.sequence-length"
        )


def _check_tokens(batch: Batch, vocabulary_size: int) -> None:
    ids = batch.input_ids
    if bool(((ids < 0) | (ids >= vocabulary_size)).any()):
        raise DataError(
            f"token ids must be in [0, {vocabulary_size}): is this the model's own tokenizer?"
        )
    targets = batch.labels[batch.labels != IGNORED_LABEL]
    if bool(((targets < 0) | (targets >= vocabulary_size)).any()):
        raise DataError(f"labels must be {IGNORED_LABEL} or in [0, {vocabulary_size})")
