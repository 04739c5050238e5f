"""What a user's batches may be, and what is said of those that may not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hsplit_flower.batches import Batch, checked
from hsplit_flower.errors import DataError
from tests.families import IGNORED, POSITIONS, VOCABULARY, fields
from tests.rounds import architecture

Fields = dict[str, Any]


def _checked(*batches: Fields, is_training: bool = True) -> list[Batch]:
    return list(checked(batches, architecture("gpt2"), is_training=is_training))


def _with(**changes: Any) -> Fields:
    return fields("right") | changes


def _changed(name: str, value: int) -> Fields:
    tensor = fields("right")[name].clone()
    tensor[1, 2] = value
    return _with(**{name: tensor})


@pytest.mark.parametrize("kind", ["unpadded", "right", "left"])
def test_a_good_batch_comes_through_unchanged(kind: str) -> None:
    (batch,) = _checked(fields(kind))
    for name, wanted in fields(kind).items():
        got = getattr(batch, name)
        assert torch.equal(got, wanted)
        assert got.dtype == torch.long
    assert batch.num_examples == 3


@pytest.mark.parametrize(
    "convert",
    [Tensor.tolist, Tensor.numpy, lambda t: t.int(), lambda t: t.numpy().astype(np.int32)],
    ids=["lists", "numpy", "int32", "numpy int32"],
)
def test_what_holds_whole_numbers_is_taken(convert: Any) -> None:
    (batch,) = _checked({name: convert(tensor) for name, tensor in fields("left").items()})
    assert torch.equal(batch.labels, fields("left")["labels"])
    assert batch.labels.dtype == torch.long


def test_a_boolean_mask_and_more_fields_are_taken() -> None:
    mask = fields("left")["attention_mask"]
    (batch,) = _checked(fields("left") | {"attention_mask": mask.bool(), "idx": [1, 2, 3]})
    assert torch.equal(batch.attention_mask, mask)


BAD = {
    "no labels": ({"input_ids": [[1]], "attention_mask": [[1]]}, r"no \['labels'\].*got"),
    "nothing at all": ({}, r"no \['input_ids', 'attention_mask', 'labels'\]"),
    "one dimension": (_with(input_ids=torch.ones(9).long()), r"input_ids has shape \[9\]"),
    "labels of another shape": (
        _with(labels=torch.ones(3, 8).long()),
        r"labels has shape \[3, 8\].*\[3, 9\] are wanted",
    ),
    "a mask of another shape": (
        _with(attention_mask=torch.ones(2, 9).long()),
        r"attention_mask has shape \[2, 9\]",
    ),
    "hidden states for ids": (_with(input_ids=torch.ones(3, 9)), "torch.float32: whole numbers"),
    "ragged lists": (_with(labels=[[1, 2], [3]]), "not three arrays"),
    "text": (_with(input_ids="a sentence"), "not three arrays"),
    "no rows": ({name: torch.ones(0, 9).long() for name in fields()}, r"is empty: shape \[0, 9\]"),
    "no columns": ({name: torch.ones(3, 0).long() for name in fields()}, "is empty"),
    "too long": (
        fields("unpadded", seq=POSITIONS + 1),
        f"{POSITIONS + 1} tokens is longer than the model's {POSITIONS} positions: lower",
    ),
    "a token too large": (_changed("input_ids", VOCABULARY), rf"in \[0, {VOCABULARY}\).*tokenizer"),
    "a negative token": (_changed("input_ids", -1), "token ids must be in"),
    "a label too large": (_changed("labels", VOCABULARY), f"labels must be {IGNORED} or in"),
    "a label that means nothing": (_changed("labels", -1), f"labels must be {IGNORED} or in"),
    "a mask of weights": (_changed("attention_mask", 2), "attention_mask must hold zeros and ones"),
    "a negative mask": (_changed("attention_mask", -1), "attention_mask must hold zeros and ones"),
    "a row of padding": (
        _with(attention_mask=torch.tensor([[0] * 9, [1] * 9, [1] * 9])),
        "at least one 1 in every row",
    ),
    "no targets": (_with(labels=torch.full((3, 9), IGNORED)), "no token has a label"),
    "the first token alone": (
        _with(labels=torch.tensor([[5] + [IGNORED] * 8] * 3)),
        "no token has a label",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_batch_is_refused_by_its_number(case: str) -> None:
    bad, message = BAD[case]
    with pytest.raises(DataError, match=f"batch 2: .*{message}"):
        _checked(fields("unpadded"), bad)


def test_evaluation_takes_a_batch_without_targets() -> None:
    batch = _with(labels=torch.full((3, 9), IGNORED))
    assert len(_checked(batch, is_training=False)) == 1


@pytest.mark.parametrize("is_training", [True, False])
def test_no_batches_are_an_empty_partition(is_training: bool) -> None:
    with pytest.raises(DataError, match="partition is empty"):
        _checked(is_training=is_training)


def test_batches_are_taken_one_by_one() -> None:
    asked = []

    def batches() -> Iterator[Fields]:
        for number in range(3):
            asked.append(number)
            yield fields("unpadded", number)

    stream = checked(batches(), architecture("gpt2"), is_training=True)
    next(stream)
    assert asked == [0]


def test_an_error_of_the_users_own_is_not_hidden() -> None:
    def batches() -> Iterator[Fields]:
        yield fields("unpadded")
        raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        list(checked(batches(), architecture("gpt2"), is_training=True))


def test_a_batch_that_is_larger_than_planned_says_that_and_what_to_change() -> None:
    """And not that memory is short, which is what it would come to."""
    first, second = fields("unpadded"), fields("unpadded")
    rows, columns = first["input_ids"].shape
    fitting = checked([first], architecture("gpt2"), is_training=True, max_tokens=rows * columns)
    assert len(list(fitting)) == 1
    stream = checked([second], architecture("gpt2"), is_training=True, max_tokens=8)
    with pytest.raises(DataError) as caught:
        next(stream)
    assert str(caught.value).startswith(
        f"batch 1: {rows} examples of up to {columns} tokens are {rows * columns} tokens with "
        "padding, and the run is planned for 8 in a batch"
    )
    assert "training.batch-size" in str(caught.value)
