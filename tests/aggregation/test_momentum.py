"""Momentum against its formula on dense matrices in float64, with a rank cap and without."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.adapters import LowRank
from hsplit_flower.aggregation import ClientUpdate, Momentum, aggregate_adapters
from hsplit_flower.errors import AdapterError
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


def _round(
    momentum: Momentum,
    updates: dict[str, LowRank],
    remainders: dict[str, LowRank],
    clients: list[ClientUpdate],
    max_rank: int | None = None,
) -> tuple[dict[str, LowRank], dict[str, LowRank]]:
    """The updates and remainders after a round, of which momentum has learnt."""
    result = aggregate_adapters(
        updates, clients, remainders=momentum.carried(remainders), max_rank=max_rank
    )
    momentum.learn(
        updates,
        result.updates,
        remainders_before=remainders,
        remainders_after=result.remainders,
    )
    return dict(result.updates), dict(result.remainders)


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
    momentum = Momentum(beta)
    updates = {name: LowRank.zeros(OUT, IN) for name in NAMES}
    remainders: dict[str, LowRank] = {}
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
        updates, remainders = _round(momentum, updates, remainders, clients, max_rank)
        for name in NAMES:
            contributions = [client.contribution(name, updates[name]) for client in clients]
            change = aggregate(torch.zeros_like(velocity[name]), contributions)
            position[name], velocity[name] = with_momentum(
                position[name], velocity[name], change, beta=beta
            )
            whole = position[name]
            cut_off = cut_off_norm(whole, OUT if max_rank is None else max_rank)
            # All that a cap lets through is in the update, also where nobody adapts the weight.
            missing = torch.linalg.norm(dense(updates[name]) - whole).item()
            assert missing <= cut_off + 2e-6 * torch.linalg.norm(whole).item()
            if name in remainders:
                got = dense(updates[name]) + dense(remainders[name])
                assert relative_error(got, whole) < 2e-6


def test_after_another_adapter_was_taken_over_nothing_is_carried() -> None:
    momentum = Momentum(0.5)
    moved = {"q": random_update(2, torch.Generator().manual_seed(0))}
    still = {"q": LowRank.zeros(OUT, IN)}
    momentum.learn(still, moved, remainders_before={}, remainders_after={})
    assert relative_error(momentum.carried({})["q"], 0.5 * dense(moved["q"])) < 1e-6
    momentum.forget()
    assert momentum.carried({}) == {}


def test_a_weight_that_nobody_adapts_goes_on_and_keeps_its_rank() -> None:
    momentum = Momentum(0.9)
    trained = {"q": random_update(1, torch.Generator().manual_seed(0))}
    updates, remainders = {"q": LowRank.zeros(OUT, IN)}, {}
    for server_round in range(4):
        client = ClientUpdate(num_examples=1, trained={} if server_round else trained)
        updates, remainders = _round(momentum, updates, remainders, [client])
    assert remainders == {}
    assert updates["q"].rank == 1
    wanted = sum(0.9**i for i in range(4)) * dense(trained["q"])
    assert relative_error(updates["q"], wanted) < 2e-6


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_a_share_of_the_whole_way_or_more_is_refused(beta: float) -> None:
    with pytest.raises(AdapterError, match=r"in \[0, 1\)"):
        Momentum(beta)
