from collections import Counter
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.data import EncodedExample, batches
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.types import IGNORED_LABEL

PAD = 7


def numbered(num_examples: int) -> list[EncodedExample]:
    """Examples of different lengths; the first id of each is 100 and its number."""
    return [
        EncodedExample(
            input_ids=(100 + number, *range(number % 5)),
            labels=(IGNORED_LABEL, *range(number % 5)),
        )
        for number in range(num_examples)
    ]


def numbers(group: dict[str, Tensor]) -> list[int]:
    return (group["input_ids"][:, 0] - 100).tolist()


def drawn(num_examples: int, batch_size: int, steps: int, seed: int | tuple[int, ...]) -> list[int]:
    groups = batches(numbered(num_examples), batch_size, steps=steps, seed=seed, pad_id=PAD)
    return [number for group in groups for number in numbers(group)]


def test_rows_are_padded_on_the_right_to_the_longest() -> None:
    examples = [
        EncodedExample(input_ids=(11, 12, 13), labels=(IGNORED_LABEL, 12, 13)),
        EncodedExample(input_ids=(21,), labels=(21,)),
    ]
    (group,) = batches(examples, 2, pad_id=PAD)
    wanted = {
        "input_ids": [[11, 12, 13], [21, PAD, PAD]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "labels": [[IGNORED_LABEL, 12, 13], [21, IGNORED_LABEL, IGNORED_LABEL]],
    }
    assert {name: tensor.tolist() for name, tensor in group.items()} == wanted
    assert all(tensor.dtype == torch.int64 for tensor in group.values())


@pytest.mark.parametrize(("multiple", "length"), [(1, 5), (5, 5), (8, 8), (3, 6)])
def test_length_is_rounded_up_to_a_multiple(multiple: int, length: int) -> None:
    (group,) = batches(numbered(5), 5, pad_id=PAD, pad_to_multiple_of=multiple)
    assert {tuple(tensor.shape) for tensor in group.values()} == {(5, length)}
    assert (group["input_ids"][group["attention_mask"] == 0] == PAD).all()
    assert (group["labels"][group["attention_mask"] == 0] == IGNORED_LABEL).all()


@given(st.integers(1, 40), st.integers(1, 12))
def test_evaluation_is_one_pass_in_order(num_examples: int, batch_size: int) -> None:
    groups = [numbers(group) for group in batches(numbered(num_examples), batch_size, pad_id=PAD)]
    assert [number for group in groups for number in group] == list(range(num_examples))
    assert all(len(group) == batch_size for group in groups[:-1])


@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 8), st.integers(0, 99))
def test_training_draws_full_batches_and_every_pass_is_whole(
    num_examples: int, batch_size: int, steps: int, seed: int
) -> None:
    order = drawn(num_examples, batch_size, steps, seed)
    assert len(order) == steps * batch_size
    for start in range(0, len(order) - num_examples + 1, num_examples):
        assert sorted(order[start : start + num_examples]) == list(range(num_examples))
    counts = Counter(order)
    assert (
        not order or max(counts.values()) - min(counts.get(n, 0) for n in range(num_examples)) <= 1
    )


def test_order_depends_on_the_seed_and_the_pass_alone() -> None:
    assert drawn(50, 5, 20, seed=3) == drawn(50, 5, 20, seed=3) == drawn(50, 20, 5, seed=3)
    assert drawn(50, 5, 20, seed=3) != drawn(50, 5, 20, seed=4)
    first, second = drawn(50, 50, 1, seed=3), drawn(50, 50, 2, seed=3)[50:]
    assert first != second and first != list(range(50))
    torch.manual_seed(1)
    assert drawn(50, 50, 1, seed=3) == first


def test_seed_of_several_numbers_tells_rounds_and_clients_apart() -> None:
    seeds = [(1, server_round, client) for server_round in (1, 2) for client in (0, 1)]
    assert len({tuple(drawn(50, 10, 5, seed=seed)) for seed in seeds}) == 4


def test_training_goes_on_as_long_as_asked_without_making_all_at_once() -> None:
    groups = batches(numbered(3), 2, steps=10**9, pad_id=PAD)
    assert len(list(islice(groups, 5))) == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of must be 1 or more"),
        ({"steps": -1}, "steps must be zero or more"),
        ({"seed": -1}, "seed must be"),
        ({"seed": (1, -2)}, "seed must be"),
    ],
)
def test_numbers_out_of_range_are_refused_at_the_call(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        batches(numbered(3), **{"batch_size": 2, "pad_id": PAD, **wrong})


def test_no_examples_are_refused_at_the_call() -> None:
    with pytest.raises(DataError, match="no examples"):
        batches([], 2, steps=1, pad_id=PAD)
