"""The aggregation against its dense float64 reference, over rounds, ranks, clients and starts."""

from collections.abc import Sequence
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.adapters.low_rank import LowRank, compress
from hsplit_flower.adapters.start import fold, initial_update, starting_point
from hsplit_flower.aggregation import (
    ClientUpdate,
    Contribution,
    Dividing,
    aggregate,
    aggregate_adapters,
    average_factors,
    pad_and_average,
)
from hsplit_flower.errors import AdapterError, NonFiniteError
from hsplit_flower.types import Start
from tests.reference import aggregation as reference
from tests.reference.aggregation import dense, relative_error

LAW = 1e-6
OUT, IN = 40, 30
SCALE = 2.0
modest = settings(max_examples=60, deadline=None)

starts = st.sampled_from(Start)
dividings = st.sampled_from(Dividing)
clients = st.lists(
    st.tuples(st.integers(1, 5000), st.sampled_from([0, 0, 1, 2, 4, 8, 40])), min_size=1, max_size=6
)
seeded = st.integers(0, 2**32 - 1).map(torch.manual_seed)
Clients = list[tuple[int, int]]


def _random(rank: int, out_features: int = OUT, in_features: int = IN) -> LowRank:
    return LowRank(b=torch.randn(out_features, rank), a=torch.randn(rank, in_features))


def _update(rank: int) -> LowRank:
    return compress(_random(rank).scale(0.1)).update


def _trained(
    update: LowRank, rank: int, start: Start, step: float = 0.1
) -> tuple[LowRank, LowRank]:
    """Where a client ends that starts from ``update``, and where it really started, both folded."""
    point = starting_point(
        update, rank=rank, start=start, scale=SCALE, generator=torch.Generator().manual_seed(rank)
    )
    b, a = point.trainable_b, point.trainable_a
    end = fold(b + step * torch.randn_like(b), a + step * torch.randn_like(a), SCALE)
    return end, fold(b, a, SCALE)


def _round(
    update: LowRank, clients: Clients, start: Start
) -> tuple[list[Contribution], list[Contribution]]:
    """What the clients bring to the server, and the same with the true starting factors."""
    told, true = [], []
    for num_examples, rank in clients:
        end, begin = _trained(update, rank, start)
        told.append(
            Contribution(
                num_examples=num_examples,
                trained=end,
                initial=initial_update(update, rank, start),
            )
        )
        true.append(Contribution(num_examples=num_examples, trained=end, initial=begin))
    return told, true


@modest
@given(seeded, st.integers(0, 30), clients, starts, dividings)
def test_equals_the_dense_reference(
    _: torch.Generator, rank: int, clients: Clients, start: Start, dividing: Dividing
) -> None:
    update = _update(rank)
    told, true = _round(update, clients, start)
    wanted = reference.aggregate(dense(update), true, holders_only=dividing is Dividing.HOLDERS)
    result = aggregate(update, told, dividing=dividing)
    assert relative_error(result.update, wanted) <= LAW
    assert result.remainder is None


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
    update = _update(rank)
    contributions = [
        Contribution(num_examples=n, trained=_random(r), initial=_random(q)) for n, r, q in clients
    ]
    wanted = reference.aggregate(dense(update), contributions) if clients else dense(update)
    assert relative_error(aggregate(update, contributions).update, wanted) <= LAW


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
        told, true = _round(update, clients, start)
        wanted = reference.aggregate(wanted, true)
        update = aggregate(update, told).update
        assert relative_error(update, wanted) <= LAW


@modest
@given(seeded, st.integers(0, 8), clients, starts, st.randoms(use_true_random=False))
def test_the_order_of_clients_does_not_matter(
    _: torch.Generator, rank: int, clients: Clients, start: Start, random: Random
) -> None:
    update = _update(rank)
    contributions, _ = _round(update, clients, start)
    shuffled = list(contributions)
    random.shuffle(shuffled)
    once, again = aggregate(update, contributions).update, aggregate(update, shuffled).update
    assert relative_error(again, dense(once)) <= LAW


@modest
@given(seeded, st.integers(0, 8), clients, starts, st.integers(2, 50))
def test_only_the_proportions_of_examples_matter(
    _: torch.Generator, rank: int, clients: Clients, start: Start, factor: int
) -> None:
    update = _update(rank)
    contributions, _ = _round(update, clients, start)
    scaled = [
        Contribution(num_examples=factor * c.num_examples, trained=c.trained, initial=c.initial)
        for c in contributions
    ]
    once, again = aggregate(update, contributions).update, aggregate(update, scaled).update
    assert relative_error(again, dense(once)) <= LAW


@modest
@given(seeded, st.integers(1, 20), clients, starts)
def test_clients_that_learn_nothing_change_nothing(
    _: torch.Generator, rank: int, clients: Clients, start: Start
) -> None:
    update = _update(rank)
    contributions = []
    for num_examples, client_rank in clients:
        _, begin = _trained(update, client_rank, start)
        initial = initial_update(update, client_rank, start)
        contributions.append(
            Contribution(num_examples=num_examples, trained=begin, initial=initial)
        )
    assert relative_error(aggregate(update, contributions).update, dense(update)) <= LAW


@pytest.mark.parametrize("start", Start)
def test_clients_that_agree_are_taken_at_their_word(start: Start) -> None:
    update = _update(6)
    end, begin = _trained(update, 4, start)
    told = Contribution(num_examples=5, trained=end, initial=initial_update(update, 4, start))
    wanted = dense(update) + dense(end) - dense(begin)
    assert relative_error(aggregate(update, [told] * 3).update, wanted) <= LAW


@pytest.mark.parametrize("start", Start)
def test_averaging_factors_is_off_on_the_same_data(start: Start) -> None:
    """The reason for all this: cross terms are not noise of the last digit."""
    zero = LowRank.zeros(OUT, IN)
    equal, _ = _round(zero, [(10, 4), (30, 4), (60, 4)], Start.RESTART)
    for contribution in equal[1:]:  # every client with an A of its own, as different seeds give
        contribution.trained.a.add_(0.1 * torch.randn(4, IN))
    mixed, _ = _round(zero, [(10, 2), (30, 4), (60, 8)], start)
    for contributions, average in ((equal, average_factors), (mixed, pad_and_average)):
        wanted = reference.aggregate(dense(zero), contributions)
        trained = [c.trained for c in contributions]
        averaged = average(trained, [c.num_examples for c in contributions])
        assert relative_error(averaged, wanted) > 1e-2
        assert relative_error(aggregate(zero, contributions).update, wanted) <= LAW


@modest
@given(seeded, st.integers(0, 20), clients, starts, st.integers(0, 12))
def test_a_rank_cap_loses_nothing(
    _: torch.Generator, rank: int, clients: Clients, start: Start, cap: int
) -> None:
    update, remainder = compress(_update(rank), max_rank=cap).update, None
    wanted = dense(update)
    for _ in range(2):
        told, true = _round(update, clients, start)
        wanted = reference.aggregate(wanted, true)
        result = aggregate(update, told, remainder=remainder, max_rank=cap)
        update, remainder = result.update, result.remainder
        assert update.rank <= cap
        assert (result.dropped_energy > 0) == (remainder is not None)
        whole = update + remainder if remainder is not None else update
        assert relative_error(whole, wanted) <= LAW


def test_dividing_says_whose_mean_it_is() -> None:
    update, trained, zero = _update(3), _random(2), LowRank.zeros(OUT, IN)
    contributions = [
        Contribution(num_examples=10, trained=trained, initial=zero),
        Contribution(num_examples=30, trained=zero, initial=zero),
    ]
    for dividing, share in ((Dividing.ALL, 0.25), (Dividing.HOLDERS, 1.0)):
        result = aggregate(update, contributions, dividing=dividing).update
        assert relative_error(result, dense(update) + share * dense(trained)) <= LAW


@pytest.mark.parametrize("dividing", Dividing)
def test_a_weight_that_nobody_trains_takes_in_its_remainder(dividing: Dividing) -> None:
    update, remainder, zero = _update(3), _random(2), LowRank.zeros(OUT, IN)
    idle = Contribution(num_examples=10, trained=zero, initial=zero)
    wanted = dense(update) + dense(remainder)
    for contributions in ([], [idle]):
        assert aggregate(update, contributions, dividing=dividing).update is update
        result = aggregate(update, contributions, remainder=remainder, dividing=dividing)
        assert relative_error(result.update, wanted) <= LAW
        assert result.remainder is None
        capped = aggregate(
            update, contributions, remainder=remainder, max_rank=4, dividing=dividing
        )
        assert (capped.update.rank, capped.dropped_energy > 0) == (4, True)
        assert capped.remainder is not None
        assert relative_error(capped.update + capped.remainder, wanted) <= LAW


def test_the_whole_adapter_is_its_weights() -> None:
    """Weights of different shapes; a client without one of them contributes zero to it."""
    shapes = {"q": (40, 30), "up": (50, 20), "k": (12, 30)}
    updates = {
        name: compress(_random(rank, *shapes[name])).update
        for name, rank in (("q", 4), ("up", 0), ("k", 2))
    }
    first = ClientUpdate(
        num_examples=10,
        trained={"q": _random(3, 40, 30), "up": _random(2, 50, 20)},
        initial={"q": updates["q"].head(3)},
    )
    second = ClientUpdate(num_examples=30, trained={"up": _random(5, 50, 20)})
    result = aggregate_adapters(updates, [first, second])
    wanted = {name: dense(update) for name, update in updates.items()}
    wanted["q"] += 0.25 * (dense(first.trained["q"]) - dense(first.initial["q"]))
    wanted["up"] += 0.25 * dense(first.trained["up"]) + 0.75 * dense(second.trained["up"])
    assert result.updates["k"] is updates["k"]
    for name in shapes:
        assert relative_error(result.updates[name], wanted[name]) <= LAW
    assert result.remainders == {}
    assert result.dropped_energy == dict.fromkeys(shapes, 0.0)


def test_remainders_of_the_whole_adapter_come_back() -> None:
    updates = {"q": LowRank.zeros(OUT, IN), "k": LowRank.zeros(OUT, IN)}
    client = ClientUpdate(num_examples=1, trained={"q": _random(6), "k": _random(2)})
    capped = aggregate_adapters(updates, [client], max_rank=3)
    assert set(capped.remainders) == {"q"}
    assert capped.dropped_energy["q"] > 0
    assert capped.dropped_energy["k"] == 0
    again = aggregate_adapters(capped.updates, [client], remainders=capped.remainders)
    for name, trained in client.trained.items():
        assert relative_error(again.updates[name], 2 * dense(trained)) <= LAW


def test_without_clients_and_remainders_nothing_changes() -> None:
    updates = {"q": _update(4)}
    result = aggregate_adapters(updates, [], max_rank=1)
    assert result.updates["q"] is updates["q"]
    assert (result.remainders, result.dropped_energy) == ({}, {"q": 0.0})


def _nan(update: LowRank) -> LowRank:
    update.b[3, 0] = float("nan")
    return update


@pytest.mark.parametrize(
    ("trained", "error", "message"),
    [
        ({"v": _random(2)}, AdapterError, r"client 1: .*'v'"),
        ({"q": _random(2, OUT, 31)}, AdapterError, r"client 1: .*'q'.*\[40, 31\].*\[40, 30\]"),
        ({"q": _nan(_random(2))}, NonFiniteError, r"client 1: .*'q'.*NaN"),
    ],
)
def test_a_client_that_cannot_be_used_is_named(
    trained: dict[str, LowRank], error: type[Exception], message: str
) -> None:
    clients: Sequence[ClientUpdate] = [
        ClientUpdate(num_examples=1, trained={"q": _random(1)}),
        ClientUpdate(num_examples=1, trained=trained),
    ]
    with pytest.raises(error, match=message):
        aggregate_adapters({"q": LowRank.zeros(OUT, IN)}, clients)
