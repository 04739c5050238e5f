"""The aggregation of one weight against its dense reference, over rounds, ranks and starts."""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.adapters.low_rank import LowRank
from hsplit_flower.adapters.start import initial_update
from hsplit_flower.aggregation import (
    Contribution,
    Dividing,
    aggregate,
    average_factors,
    change,
    pad_and_average,
)
from hsplit_flower.types import Start
from tests.aggregation.contributions import (
    IN,
    LAW,
    OUT,
    Clients,
    canonical_update,
    contributions_of,
    random_factors,
    train,
)
from tests.reference import aggregation as reference
from tests.reference.aggregation import dense, relative_error

modest = settings(max_examples=60, deadline=None)

starts = st.sampled_from(Start)
dividings = st.sampled_from(Dividing)
clients = st.lists(
    st.tuples(st.integers(1, 5000), st.sampled_from([0, 0, 1, 2, 4, 8, 40])), min_size=1, max_size=6
)
seeded = st.integers(0, 2**32 - 1).map(torch.manual_seed)


@modest
@given(seeded, st.integers(0, 30), clients, starts, dividings)
def test_equals_the_dense_reference(
    _: torch.Generator, rank: int, clients: Clients, start: Start, dividing: Dividing
) -> None:
    update = canonical_update(rank)
    told, true = contributions_of(update, clients, start)
    wanted = reference.aggregate(dense(update), true, holders_only=dividing is Dividing.HOLDERS)
    result = aggregate(update, told, dividing=dividing)
    assert relative_error(result, wanted) <= LAW
    moved = change(update, told, dividing=dividing)
    whole = sum((dense(term) for term in moved), dense(update))
    assert relative_error(whole, wanted) <= LAW


@modest
@given(
    seeded,
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(1, 99), st.integers(0, 9), st.integers(0, 9))),
)
def test_any_initial_factors_are_subtracted(
    _: torch.Generator, rank: int, clients: list[tuple[int, int, int]]
) -> None:
    """Also those that are not directions of the update, as after a round that was missed."""
    update = canonical_update(rank)
    contributions = [
        Contribution(num_examples=n, trained=random_factors(r), initial=random_factors(q))
        for n, r, q in clients
    ]
    wanted = reference.aggregate(dense(update), contributions) if clients else dense(update)
    assert relative_error(aggregate(update, contributions), wanted) <= LAW


@pytest.mark.parametrize("start", Start)
def test_five_rounds_stay_exact(start: Start) -> None:
    """Errors must not pile up, whatever ranks and clients each round has."""
    update, wanted = LowRank.zeros(OUT, IN), torch.zeros(OUT, IN, dtype=torch.float64)
    for clients in (
        [(10, 2), (30, 4), (7, 0)],
        [(10, 4), (30, 4), (7, 8)],
        [(1, 1)],
        [(10, 40), (500, 2), (7, 3), (90, 3)],
        [(3, 2), (3, 2), (3, 2)],
    ):
        told, true = contributions_of(update, clients, start)
        wanted = reference.aggregate(wanted, true)
        update = aggregate(update, told)
        assert relative_error(update, wanted) <= LAW


@modest
@given(seeded, st.integers(0, 8), clients, starts, st.randoms(use_true_random=False))
def test_the_order_of_clients_does_not_matter(
    _: torch.Generator, rank: int, clients: Clients, start: Start, random: Random
) -> None:
    update = canonical_update(rank)
    contributions, _ = contributions_of(update, clients, start)
    shuffled = list(contributions)
    random.shuffle(shuffled)
    once, again = aggregate(update, contributions), aggregate(update, shuffled)
    assert relative_error(again, dense(once)) <= LAW


@modest
@given(seeded, st.integers(0, 8), clients, starts, st.integers(2, 50))
def test_only_the_proportions_of_examples_matter(
    _: torch.Generator, rank: int, clients: Clients, start: Start, factor: int
) -> None:
    update = canonical_update(rank)
    contributions, _ = contributions_of(update, clients, start)
    scaled = [
        Contribution(num_examples=factor * c.num_examples, trained=c.trained, initial=c.initial)
        for c in contributions
    ]
    once, again = aggregate(update, contributions), aggregate(update, scaled)
    assert relative_error(again, dense(once)) <= LAW


@modest
@given(seeded, st.integers(1, 20), clients, starts)
def test_clients_that_learn_nothing_change_nothing(
    _: torch.Generator, rank: int, clients: Clients, start: Start
) -> None:
    update = canonical_update(rank)
    contributions = []
    for num_examples, client_rank in clients:
        _, begin = train(update, client_rank, start)
        initial = initial_update(update, client_rank, start)
        contributions.append(
            Contribution(num_examples=num_examples, trained=begin, initial=initial)
        )
    assert relative_error(aggregate(update, contributions), dense(update)) <= LAW


@pytest.mark.parametrize("start", Start)
def test_clients_that_agree_are_taken_at_their_word(start: Start) -> None:
    update = canonical_update(6)
    end, begin = train(update, 4, start)
    told = Contribution(num_examples=5, trained=end, initial=initial_update(update, 4, start))
    wanted = dense(update) + dense(end) - dense(begin)
    assert relative_error(aggregate(update, [told] * 3), wanted) <= LAW


@pytest.mark.parametrize("start", Start)
def test_averaging_factors_is_off_on_the_same_data(start: Start) -> None:
    """The reason for all this: cross terms are not noise of the last digit."""
    zero = LowRank.zeros(OUT, IN)
    equal, _ = contributions_of(zero, [(10, 4), (30, 4), (60, 4)], Start.RESTART)
    for contribution in equal[1:]:  # every client with an A of its own, as different seeds give
        contribution.trained.a.add_(0.1 * torch.randn(4, IN))
    mixed, _ = contributions_of(zero, [(10, 2), (30, 4), (60, 8)], start)
    for contributions, average in ((equal, average_factors), (mixed, pad_and_average)):
        wanted = reference.aggregate(dense(zero), contributions)
        trained = [c.trained for c in contributions]
        averaged = average(trained, [c.num_examples for c in contributions])
        assert relative_error(averaged, wanted) > 1e-2
        assert relative_error(aggregate(zero, contributions), wanted) <= LAW


def test_dividing_says_whose_mean_it_is() -> None:
    update, trained, zero = canonical_update(3), random_factors(2), LowRank.zeros(OUT, IN)
    contributions = [
        Contribution(num_examples=10, trained=trained, initial=zero),
        Contribution(num_examples=30, trained=zero, initial=zero),
    ]
    for dividing, share in ((Dividing.ALL, 0.25), (Dividing.HOLDERS, 1.0)):
        result = aggregate(update, contributions, dividing=dividing)
        assert relative_error(result, dense(update) + share * dense(trained)) <= LAW


@pytest.mark.parametrize("dividing", Dividing)
def test_a_weight_that_nobody_trains_takes_in_what_is_carried(dividing: Dividing) -> None:
    update, carried, zero = canonical_update(3), random_factors(2), LowRank.zeros(OUT, IN)
    idle = Contribution(num_examples=10, trained=zero, initial=zero)
    wanted = dense(update) + dense(carried)
    for contributions in ([], [idle]):
        assert aggregate(update, contributions, dividing=dividing) is update
        assert change(update, contributions, dividing=dividing) == []
        result = aggregate(update, contributions, carried=carried, dividing=dividing)
        assert relative_error(result, wanted) <= LAW
