"""Contributions that cannot be used are refused when they are made, or when they are checked."""

import pytest
import torch

from hsplit_flower.adapters.low_rank import LowRank
from hsplit_flower.aggregation import ClientUpdate, Contribution, aggregate_adapters, check_client
from hsplit_flower.aggregation.contribution import LARGEST_NORM, shares
from hsplit_flower.errors import AdapterError, NonFiniteError

ZERO = LowRank.zeros(4, 3)
SOME = LowRank(b=torch.ones(4, 2), a=torch.ones(2, 3))


def test_shares_are_the_proportions_of_examples() -> None:
    assert shares([1, 3, 4]) == [0.125, 0.375, 0.5]


@pytest.mark.parametrize("num_examples", [0, -3])
def test_a_client_needs_examples(num_examples: int) -> None:
    with pytest.raises(AdapterError, match=f"{num_examples} examples"):
        shares([5, num_examples])
    with pytest.raises(AdapterError, match=f"{num_examples} examples"):
        Contribution(num_examples=num_examples, trained=ZERO, initial=ZERO)
    with pytest.raises(AdapterError, match=f"{num_examples} examples"):
        ClientUpdate(num_examples=num_examples, trained={})


def test_what_was_started_must_have_been_trained() -> None:
    with pytest.raises(AdapterError, match="'k'"):
        ClientUpdate(num_examples=1, trained={"q": SOME}, initial={"q": SOME, "k": SOME})


def test_a_client_without_a_weight_brings_rank_zero_to_it() -> None:
    client = ClientUpdate(num_examples=7, trained={"q": SOME})
    assert client.contribution("q", ZERO).is_holder
    other = client.contribution("k", SOME)
    assert not other.is_holder
    assert (other.num_examples, other.trained.out_features, other.initial.in_features) == (7, 4, 3)


def test_a_fitting_client_passes() -> None:
    check_client(ClientUpdate(num_examples=1, trained={"q": SOME}), {"q": ZERO, "k": ZERO})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_initial_factors_are_checked_too(value: float) -> None:
    bad = LowRank(b=torch.ones(4, 1), a=torch.full((1, 3), value))
    client = ClientUpdate(num_examples=1, trained={"q": SOME}, initial={"q": bad})
    with pytest.raises(NonFiniteError, match="'q'"):
        check_client(client, {"q": ZERO})


@pytest.mark.parametrize("rank", [1, 16])
def test_finite_factors_whose_product_is_not_are_refused(rank: int) -> None:
    huge = LowRank(b=torch.full((4, rank), 3e38), a=torch.full((rank, 3), 3e38))
    client = ClientUpdate(num_examples=1, trained={"q": huge})
    with pytest.raises(AdapterError, match=r"'q' has a norm of up to .*diverged"):
        check_client(client, {"q": ZERO})


def test_how_a_direction_is_shared_between_its_factors_does_not_matter() -> None:
    shares = torch.tensor([1e30, 1e-30])
    lopsided = LowRank(b=torch.ones(4, 2) * shares, a=torch.ones(2, 3) / shares[:, None])
    check_client(ClientUpdate(num_examples=1, trained={"q": lopsided}), {"q": ZERO})


def test_the_largest_updates_add_up_to_numbers_that_can_be_added_again() -> None:
    size = (LARGEST_NORM / 12) ** 0.5
    largest = LowRank(b=torch.full((4, 1), size), a=torch.full((1, 3), size * 12**0.5))
    updates = {"q": ZERO}
    for _ in range(20):
        clients = [ClientUpdate(num_examples=1, trained={"q": largest})] * 5
        updates = aggregate_adapters(updates, clients)
    assert torch.isfinite(updates["q"].dense()).all()
