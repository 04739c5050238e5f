import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.data import Example, labels_of, load_examples, partition
from hsplit_flower.errors import ConfigError, DataError

LABELS = [f"label {number % 7}" for number in range(700)]


def shares(labels: list[str], part: list[int]) -> dict[str, float]:
    counts = Counter(labels[position] for position in part)
    return {label: counts[label] / len(part) for label in set(labels)}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from("abcde"), min_size=40, max_size=120),
    st.integers(1, 5),
    st.sampled_from(["iid", "dirichlet"]),
    st.integers(0, 2**32),
)
def test_every_position_goes_to_exactly_one_client(
    labels: list[str], num_clients: int, scheme: str, seed: int
) -> None:
    parts = partition(labels, num_clients, scheme=scheme, alpha=5.0, seed=seed)
    assert len(parts) == num_clients and all(parts)
    assert sorted(position for part in parts for position in part) == list(range(len(labels)))
    assert all(type(position) is int for part in parts for position in part)


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_same_seed_same_partition_another_seed_another(scheme: str) -> None:
    first = partition(LABELS, 4, scheme=scheme, seed=5)
    assert partition(LABELS, 4, scheme=scheme, seed=5) == first
    assert partition(LABELS, 4, scheme=scheme, seed=6) != first


def test_iid_deals_equal_parts_with_equal_shares() -> None:
    parts = partition(LABELS, 4, scheme="iid")
    assert {len(part) for part in parts} == {175}
    for part in parts:
        assert part != sorted(part)
        assert max(shares(LABELS, part).values()) < 0.3


def test_iid_does_not_look_at_labels() -> None:
    assert partition(LABELS, 4, seed=2) == partition(["same"] * 700, 4, seed=2)


def test_small_alpha_is_less_equal_than_large() -> None:
    def most(alpha: float) -> float:
        parts = partition(LABELS, 4, scheme="dirichlet", alpha=alpha, seed=1)
        return max(max(shares(LABELS, part).values()) for part in parts)

    assert most(1000.0) < 0.25 < 0.5 < most(0.1)


def test_a_label_is_one_clients_alone_and_clients_have_about_as_many() -> None:
    labels = [str(min(number % 11, 7)) for number in range(600)]
    parts = partition(labels, 3, scheme="natural", seed=4)
    assert sorted(position for part in parts for position in part) == list(range(600))
    held = [{labels[position] for position in part} for part in parts]
    assert sum(map(len, held)) == len(set(labels)), "no label is held by two"
    assert max(map(len, parts)) - min(map(len, parts)) <= max(Counter(labels).values())
    assert all(part != sorted(part) for part in parts)
    assert partition(labels, 3, scheme="natural", seed=4) == parts


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(DataError, match="2 different labels cannot give 3 clients one or more"):
        partition(["a", "b"] * 5, 3, scheme="natural")
    with pytest.raises(
        DataError, match=r"fewer than 4 of 13 examples \(examples by client: \{1: 3"
    ):
        partition(["a"] * 10 + ["b"] * 3, 2, scheme="natural", min_examples=4)


def test_order_within_a_client_is_not_by_label() -> None:
    (part,) = partition(sorted(LABELS), 1, scheme="dirichlet")
    assert len({sorted(LABELS)[position] for position in part[:100]}) == 7


def test_draws_that_leave_a_client_short_are_repeated_without_a_word(
    capfd: pytest.CaptureFixture[str],
) -> None:
    labels = [f"{number % 3}" for number in range(60)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drawn = [
            partition(labels, 4, scheme="dirichlet", alpha=0.7, seed=seed, min_examples=6)
            for seed in range(8)
        ]
    assert min(len(part) for parts in drawn for part in parts) >= 6
    assert not caught and capfd.readouterr() == ("", "")


def test_impossible_draw_is_refused_with_the_clients_and_the_remedy() -> None:
    message = r"alpha = 0.001.*fewer than 1 of 20 .*in the first: \{\d: 0.*\}\); raise alpha"
    with pytest.raises(DataError, match=message):
        partition(["a", "b"] * 10, 6, scheme="dirichlet", alpha=0.001)


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_too_few_examples_are_refused_with_the_clients(scheme: str) -> None:
    with pytest.raises(DataError, match=r"3 examples cannot give 5 clients .* clients 3 to 4"):
        partition(["a"] * 3, 5, scheme=scheme)


def test_all_settings_out_of_range_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        partition(LABELS, 0, scheme="random", alpha=0.0, seed=-1, min_examples=0)
    for name in ("scheme", "num_clients", "alpha", "seed", "min_examples"):
        assert name in str(raised.value)


def test_label_is_the_value_of_the_attribute_and_missing_is_a_label() -> None:
    meanings = ["name[A], food[Greek]", "name[B]", "name[A], food[Welsh]"]
    examples = [Example(meaning=meaning, reference="x") for meaning in meanings]
    assert labels_of(examples) == ["Greek", "(none)", "Welsh"]
    assert labels_of(examples, "name") == ["A", "B", "A"]


def test_unknown_attribute_is_refused_with_how_many_there_are() -> None:
    with pytest.raises(DataError, match=r"'colour' to partition by, and they have \d+ others"):
        labels_of(load_examples("restaurants", "dev"), "colour")


def test_meaning_without_attributes_is_refused() -> None:
    with pytest.raises(DataError, match="cannot read a meaning"):
        labels_of([Example(meaning="A pub", reference="x")])


def test_e2e_is_partitioned_by_food_in_seconds(shared_data: Path) -> None:
    examples = load_examples(str(shared_data / "e2e"), "train")
    partition(LABELS, 5, scheme="dirichlet")  # leaves the imports out of the measurement
    start = time.process_time()
    parts = partition(labels_of(examples, "food"), 5, scheme="dirichlet", alpha=0.5, seed=1)
    assert time.process_time() - start < 5
    assert sorted(position for part in parts for position in part) == list(range(len(examples)))
