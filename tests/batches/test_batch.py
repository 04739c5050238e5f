"""What a user's batches may be, and what is said of those that may not."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BatchEncoding, DataCollatorWithFlattening

from hsplit_flower.batches import Batch, checked
from hsplit_flower.errors import DataError
from tests.families import IGNORED, POSITIONS, VOCABULARY, fields, packed
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


def _as_torch(tensor: Tensor, kind: str) -> Tensor:
    return tensor.to(getattr(torch, kind))


def _as_numpy(tensor: Tensor, kind: str) -> Any:
    return tensor.numpy().astype(kind)


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
    [
        Tensor.tolist,
        Tensor.numpy,
        lambda t: tuple(map(tuple, t.tolist())),
        lambda t: list(t.numpy()),
        *(
            partial(_as_torch, kind=k)
            for k in ["int8", "int16", "int32", "uint8", "uint16", "uint32"]
        ),
        *(partial(_as_numpy, kind=k) for k in ("int32", "uint16", "uint64", ">i8", ">u2")),
    ],
)
def test_what_holds_whole_numbers_is_taken(convert: Any) -> None:
    given = fields("unpadded") | {"labels": fields("unpadded")["input_ids"]}
    (batch,) = _checked(BatchEncoding({name: convert(one) for name, one in given.items()}))
    for name, wanted in given.items():
        assert torch.equal(getattr(batch, name), wanted)
        assert getattr(batch, name).dtype == torch.long


def test_a_boolean_mask_is_taken_and_what_the_model_does_not_know_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mask = fields("left")["attention_mask"]
    given = fields("left") | {"attention_mask": mask.bool(), "idx": ["a"] * 3, "use_cache": True}
    batch, *_ = _checked(given, given, given | {"more": 1, "position_ids": None})
    assert torch.equal(batch.attention_mask, mask)
    assert [record.getMessage() for record in caplog.records] == [
        "batch 1: ignored are its idx, use_cache",
        "batch 3: ignored are its more",
    ]


def test_padding_at_the_end_of_all_rows_is_cut_off_and_no_label_is() -> None:
    """Rows of nine, the longest of seven tokens; then with a label on its padding."""
    given = {name: tensor[1:] for name, tensor in fields("right").items()}
    labelled = given | {"labels": given["labels"].clone()}
    labelled["labels"][1, 7] = 5
    batch, other = _checked(given, labelled)
    assert batch.shape == (2, 7)
    assert torch.equal(batch.labels, given["labels"][:, :7])
    assert other.shape == (2, 8)


@pytest.mark.parametrize("with_mask", [False, True])
def test_positions_are_taken_and_without_a_mask_there_is_none(with_mask: bool) -> None:
    given = packed(with_mask=with_mask)
    (batch,) = _checked(given)
    assert torch.equal(batch.position_ids, given["position_ids"])
    assert (batch.attention_mask is not None) == with_mask
    parts = batch.in_micro_batches(2)
    assert [part.num_examples for part in parts] == [2, 1]
    assert torch.equal(torch.cat([part.position_ids for part in parts]), given["position_ids"])


def test_what_common_collators_make_is_taken() -> None:
    rows = [{"input_ids": [5, 6, 7]}, {"input_ids": [8, 9]}]
    flat = DataCollatorWithFlattening()(rows)
    (batch,) = _checked(flat)
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.labels.tolist() == [[IGNORED, 6, 7, IGNORED, 9]]
    with_lengths = DataCollatorWithFlattening(return_flash_attn_kwargs=True)(rows)
    assert torch.equal(_checked(with_lengths)[0].position_ids, batch.position_ids)


def test_positions_for_a_model_that_takes_none_are_refused() -> None:
    takes_none = replace(architecture("gpt2"), inputs=frozenset({"input_ids"}))
    with pytest.raises(DataError, match="batch 1: has position_ids, and the model takes none"):
        list(checked([packed()], takes_none, is_training=True))


BAD = {
    "no labels": (
        {"input_ids": [[1]], "attention_mask": [[1]]},
        r"no \['labels'\] among",
    ),
    "nothing at all": ({}, r"no \['input_ids', 'labels', 'attention_mask'\]"),
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
    "ragged lists": (_with(labels=[[1, 2], [3]]), "labels is no array of whole numbers"),
    "text": (_with(input_ids="a sentence"), "input_ids is no array of whole numbers"),
    "a tuple": ((torch.ones(3, 9).long(),) * 2, "is a tuple: a mapping .* is wanted, such as a"),
    "columns": (_with(input_ids=list(torch.ones(9, 3).long())), "or, as PyTorch's default"),
    "complex numbers": (_with(labels=torch.ones(3, 9) * 1j), "complex64: whole numbers"),
    "a mask of blocks": (_with(attention_mask=torch.ones(3, 1, 9, 9).long()), "[3, 1, 9, 9]"),
    "no mask": ({n: f for n, f in fields().items() if n != "attention_mask"}, "no .'attention_m"),
    "numbered documents": (
        _with(attention_mask=torch.tensor([[1] * 4 + [2] * 5] * 3)),
        "kept apart by position_ids that begin anew with each, and no mask",
    ),
    "types of tokens": (_with(token_type_ids=torch.ones(3, 9).long()), "has token_type_ids, which"),
    "embeddings": (_with(inputs_embeds=torch.ones(3, 9, 4)), "has inputs_embeds, which would"),
    "documents by number": (_with(seq_idx=torch.ones(3, 9).long()), "has seq_idx, which would"),
    "a negative position": (_with(position_ids=-torch.ones(3, 9).long()), "must be zero or more"),
    "a position too high": (
        _with(position_ids=torch.full((3, 9), POSITIONS)),
        f"a sequence of {POSITIONS + 1} tokens is longer",
    ),
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
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_batch_is_refused_by_its_number(case: str) -> None:
    bad, message = BAD[case]
    with pytest.raises(DataError, match=f"batch 2: .*{message}"):
        _checked(fields("unpadded"), bad)


NO_TARGETS = {
    "none": _with(labels=torch.full((3, 9), IGNORED)),
    "the first token alone": _with(labels=torch.tensor([[5] + [IGNORED] * 8] * 3)),
}


@pytest.mark.parametrize("case", NO_TARGETS)
def test_a_batch_without_targets_is_passed_over_and_that_is_said_once(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = NO_TARGETS[case], fields("unpadded")
    (batch,) = _checked(bad, good, bad)
    assert torch.equal(batch.input_ids, good["input_ids"])
    (record,) = caplog.records
    assert record.getMessage() == "batch 1: no token has a label; such ones are passed over"
    with pytest.raises(DataError, match=r"no token has a label: .* none is in 2 batches"):
        _checked(bad, bad)


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
