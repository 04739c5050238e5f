"""Momentum against its formula on dense matrices in float64, with a rank cap and without."""

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.adapters import LowRank
from hsplit_flower.aggregation import (
    ClientUpdate,
    aggregate_adapters,
    carried,
    next_velocities,
)
from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Aggregation
from tests.reference.aggregation import (
    aggregate,
    cut_off_norm,
    dense,
    relative_error,
    with_momentum,
)

NAMES = ("q", "k")
OUT, IN = 9, 7


def random_update(rank: int, generator: torch.Generator) -> LowRank:
    return LowRank(
        b=torch.randn(OUT, rank, generator=generator), a=torch.randn(rank, IN, generator=generator)
    )


@dataclass(frozen=True)
class State:
    """What a round leaves to the next one."""

    updates: dict[str, LowRank]
    remainders: dict[str, LowRank] = field(default_factory=dict)
    velocities: dict[str, LowRank] = field(default_factory=dict)


def _next(
    state: State, clients: list[ClientUpdate], *, beta: float, max_rank: int | None = None
) -> State:
    added = carried(state.remainders, state.velocities, beta=beta)
    result = aggregate_adapters(state.updates, clients, remainders=added, max_rank=max_rank)
    velocities = next_velocities(
        state.updates,
        result.updates,
        remainders_before=state.remainders,
        remainders_after=result.remainders,
    )
    return State(dict(result.updates), dict(result.remainders), velocities)


@settings(max_examples=40, deadline=None)
@given(
    beta=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    max_rank=st.sampled_from([None, 3]),
    ranks=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6),
    seed=st.integers(0, 2**16),
)
def test_every_round_goes_a_share_of_the_way_of_the_round_before(
    beta: float, max_rank: int | None, ranks: list[tuple[int, int]], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    state = State({name: LowRank.zeros(OUT, IN) for name in NAMES})
    position = {name: torch.zeros(OUT, IN, dtype=torch.float64) for name in NAMES}
    velocity = dict(position)
    for of_q, of_k in ranks:
        clients = [
            ClientUpdate(
                num_examples=examples,
                trained={
                    name: random_update(rank, generator)
                    for name, rank in (("q", of_q), ("k", of_k))
                    if rank
                },
            )
            for examples in (1, 3)
        ]
        contributions = {
            name: [client.contribution(name, state.updates[name]) for client in clients]
            for name in NAMES
        }
        state = _next(state, clients, beta=beta, max_rank=max_rank)
        for name in NAMES:
            change = aggregate(torch.zeros_like(velocity[name]), contributions[name])
            position[name], velocity[name] = with_momentum(
                position[name], velocity[name], change, beta=beta
            )
            whole = position[name]
            cut_off = cut_off_norm(whole, OUT if max_rank is None else max_rank)
            # All that a cap lets through is in the update, also where nobody adapts the weight.
            missing = torch.linalg.norm(dense(state.updates[name]) - whole).item()
            assert missing <= cut_off + 2e-6 * torch.linalg.norm(whole).item()
            if name in state.remainders:
                got = dense(state.updates[name]) + dense(state.remainders[name])
                assert relative_error(got, whole) < 2e-6


def test_nothing_is_carried_where_nothing_has_moved_or_nothing_is_to_be() -> None:
    moved = {"q": random_update(2, torch.Generator().manual_seed(0))}
    held_back = {"q": random_update(1, torch.Generator().manual_seed(1))}
    assert carried({}, {}, beta=0.5) == {}
    assert carried({}, moved, beta=0.0) == {}
    assert carried(held_back, moved, beta=0.0) == held_back
    assert carried({}, {"q": LowRank.zeros(OUT, IN)}, beta=0.5) == {}
    assert relative_error(carried({}, moved, beta=0.5)["q"], 0.5 * dense(moved["q"])) < 1e-6
    both = 0.5 * dense(moved["q"]) + dense(held_back["q"])
    assert relative_error(carried(held_back, moved, beta=0.5)["q"], both) < 1e-6


def test_what_is_carried_changes_nothing_that_it_was_made_from() -> None:
    moved = {"q": random_update(2, torch.Generator().manual_seed(0))}
    held_back = {"q": random_update(1, torch.Generator().manual_seed(1))}
    before = dense(moved["q"]), dense(held_back["q"])
    carried(held_back, moved, beta=0.5)
    assert torch.equal(dense(moved["q"]), before[0])
    assert torch.equal(dense(held_back["q"]), before[1])
    assert list(held_back) == ["q"]


def test_a_weight_that_nobody_adapts_goes_on_and_keeps_its_rank() -> None:
    trained = {"q": random_update(1, torch.Generator().manual_seed(0))}
    state = State({"q": LowRank.zeros(OUT, IN)})
    for server_round in range(4):
        client = ClientUpdate(num_examples=1, trained={} if server_round else trained)
        state = _next(state, [client], beta=0.9)
    assert state.remainders == {}
    assert state.updates["q"].rank == 1
    wanted = sum(0.9**i for i in range(4)) * dense(trained["q"])
    assert relative_error(state.updates["q"], wanted) < 2e-6


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_a_share_of_the_whole_way_or_more_is_refused(beta: float) -> None:
    with pytest.raises(ConfigError, match="momentum must be a number from 0 to below 1"):
        Aggregation(momentum=beta)
