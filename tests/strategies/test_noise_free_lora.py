"""Whole-model LoRA on Flower: the sum is exact, and each client is sent the head of it."""

from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import FedAvg, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower import NoiseFreeLoRA, export_adapter, import_adapter
from hsplit_flower.errors import AdapterError, ConfigError
from tests.reference.aggregation import dense, relative_error
from tests.strategies.local_grid import LocalGrid
from tests.strategies.lora_clients import (
    FAULTS,
    SHAPES,
    Federation,
    assert_is,
    config_of,
    fresh,
    halved,
    products,
)

A_KEY, B_KEY = (f"base_model.model.layers.0.q_proj.lora_{kind}.weight" for kind in "AB")


def strategy_of(rank: int, **options: Any) -> NoiseFreeLoRA:
    config = options.pop("peft_config", config_of(rank))
    return NoiseFreeLoRA(
        **{"min_train_nodes": 1, "min_available_nodes": 1, "fraction_evaluate": 0.0, **options},
        peft_config=config,
    )


def run(strategy: FedAvg, grid: LocalGrid, initial: dict[str, torch.Tensor], rounds: int) -> Result:
    with grid:
        return strategy.start(grid, ArrayRecord(initial), num_rounds=rounds)


def state_of(result: Result) -> dict[str, torch.Tensor]:
    return dict(result.arrays.to_torch_state_dict())


def head_error(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], rank: int) -> float:
    """How far factors are from the best ones of their rank, relative to all there is."""
    errors = []
    for name, product in products(state).items():
        u, s, v = torch.linalg.svd(wanted[name], full_matrices=False)
        best = u[:, :rank] * s[:rank] @ v[:rank]
        errors.append(float((product - best).norm() / wanted[name].norm()))
    return max(errors)


@settings(max_examples=15, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    server_rank=st.integers(1, 6),
    rounds=st.integers(1, 4),
    is_stabilised=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_sum_is_the_float64_sum_whatever_the_ranks(
    ranks: list[int], server_rank: int, rounds: int, is_stabilised: bool, seed: int
) -> None:
    federation = Federation(is_stabilised=is_stabilised)
    initial = fresh(server_rank, seed=seed)
    strategy = strategy_of(
        server_rank, peft_config=config_of(server_rank, use_rslora=is_stabilised), seed=seed
    )
    run(strategy, federation.grid(*({"rank": rank} for rank in ranks)), initial, rounds)
    assert len(federation.changes) == rounds
    assert all(len(clients) == len(ranks) for clients in federation.changes.values())
    assert_is(strategy.updates, federation.exact(initial))


def test_equal_clients_are_sent_the_best_adapter_of_their_rank() -> None:
    federation, initial = Federation(), fresh(3)
    strategy = strategy_of(3)
    result = run(strategy, federation.grid(*[{"rank": 3}] * 3), initial, 4)
    exact = federation.exact(initial)
    state = state_of(result)
    assert {key: (t.shape, t.dtype) for key, t in state.items()} == {
        key: (t.shape, t.dtype) for key, t in initial.items()
    }
    assert list(state) == list(initial)
    assert head_error(state, exact, 3) < 1e-5
    # It is not all there is: the rest is kept.
    assert all(update.rank > 3 for update in strategy.updates.values())


def test_the_first_round_sends_what_it_was_given() -> None:
    federation, initial = Federation(), fresh(3)
    run(strategy_of(3), federation.grid({"rank": 3}), initial, 1)
    torch.testing.assert_close(federation.given[1, 1], initial, rtol=0, atol=0)


def test_unequal_clients_are_each_sent_their_own_head() -> None:
    federation, initial = Federation(), fresh(4)
    grid = federation.grid(*({"rank": rank} for rank in (2, 4, 6)))
    strategy = strategy_of(4, fraction_evaluate=1.0)
    result = run(strategy, grid, initial, 3)
    for node, rank in ((1, 2), (2, 4), (3, 6)):
        before = Federation(changes={r: federation.changes[r] for r in (1, 2)}).exact(initial)
        assert federation.given[3, node][A_KEY].shape == (rank, 10)
        assert head_error(federation.given[3, node], before, rank) < 1e-5
    assert result.arrays[A_KEY].shape == (4, 10)
    assert result.evaluate_metrics_clientapp[3]["rank"] == pytest.approx(4.0)


def test_declared_ranks_are_sent_from_the_first_message_on() -> None:
    federation, initial = Federation(), fresh(4)
    strategy = strategy_of(4, client_ranks={1: 2})
    run(strategy, federation.grid({"rank": 2}, {"rank": 4}), initial, 2)
    assert federation.given[1, 1][A_KEY].shape == (2, 10)
    assert not federation.given[1, 1][B_KEY].any()
    assert_is(strategy.updates, federation.exact(initial))


def test_a_late_joiner_starts_from_the_head() -> None:
    federation, initial = Federation(), fresh(3)
    grid, strategy = federation.grid({"rank": 3}, {"rank": 3}), strategy_of(3)
    with grid:
        first = strategy.start(grid, ArrayRecord(initial), num_rounds=2)
        known = strategy.updates
        grid.nodes[7] = {"rank": 3}
        # Goes on where it was: these are its own arrays.
        again = Federation()
        grid.app = again.app()
        strategy.start(grid, first.arrays, num_rounds=2)
    torch.testing.assert_close(again.given[1, 7], state_of(first), rtol=0, atol=0)
    wanted = again.exact(fresh(3))
    assert_is(strategy.updates, {name: dense(known[name]) + wanted[name] for name in wanted})


@pytest.mark.parametrize("load", [None, halved], ids=["fresh", "first rows"])
def test_a_late_joiner_of_another_rank_counts_once_its_start_is_known(
    load: Any, flower_log: list[str]
) -> None:
    federation, initial = Federation(), fresh(4)
    if load:
        federation.load = load
    strategy = strategy_of(4)
    with federation.grid({"rank": 4}) as grid:
        first = strategy.start(grid, ArrayRecord(initial), num_rounds=1)
        grid.nodes[2] = {"rank": 2}
        arrays = first.arrays
        for server_round in (2, 3):
            messages = strategy.configure_train(server_round, arrays, ConfigRecord(), grid)
            arrays, _ = strategy.aggregate_train(server_round, grid.send_and_receive(messages))
    assert_is(strategy.updates, federation.exact(initial, leaving_out=[(2, 2)]))
    assert federation.given[3, 2][A_KEY].shape == (2, 10)
    (told,) = [line for line in flower_log if "left out" in line]
    assert told.startswith("The client of node 2 is left out of round 2: it has rank 2")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_client_is_left_out_by_its_node(fault: str, flower_log: list[str]) -> None:
    federation, initial = Federation(), fresh(3)
    grid = federation.grid({"rank": 3}, {"rank": 3, "fault": fault}, {"rank": 3})
    strategy = strategy_of(3)
    result = run(strategy, grid, initial, 2)
    assert_is(strategy.updates, federation.exact(initial))
    assert len([line for line in flower_log if "node 2 is left out of round" in line]) == 2
    # FedAvg's own mean of metrics, over those that count: (10 · 1 + 30 · 3) / 40.
    assert result.train_metrics_clientapp[2] == {"train_loss": 2.5}


@pytest.mark.parametrize("examples", [0, -3, float("nan"), [1, 2]], ids=str)
def test_a_client_without_a_weight_is_left_out(examples: Any, flower_log: list[str]) -> None:
    federation, initial = Federation(), fresh(3)
    grid = federation.grid({"rank": 3}, {"rank": 3})
    reply = federation.reply
    strategy = strategy_of(3)

    def without_weight(message: Any, node: Any, node_id: int, server_round: int) -> Any:
        content = reply(message, node, node_id, server_round)
        if node_id == 2:
            content.metric_records["metrics"]["num-examples"] = examples
        return content

    federation.reply = without_weight  # type: ignore[method-assign]
    run(strategy, grid, initial, 1)
    assert_is(strategy.updates, federation.exact(initial, leaving_out=[(1, 2)]))
    assert [line for line in flower_log if "'num-examples' is" in line]


def test_where_nobody_counts_the_next_round_starts_where_this_one_did() -> None:
    federation, initial = Federation(), fresh(3)
    strategy = strategy_of(3)
    with federation.grid({"rank": 3, "fault": "nan"}) as grid:
        result = strategy.start(grid, ArrayRecord(initial), num_rounds=1)
        assert not result.train_metrics_clientapp
        assert strategy.updates["layers.0.q_proj"].rank == 0
        grid.nodes[1] = {"rank": 3}
        strategy.start(grid, ArrayRecord(initial), num_rounds=1)
    assert_is(strategy.updates, federation.exact(initial))


@pytest.mark.parametrize("weights", [(0.25, 0.75), (1e-3, 2e6), (7, 2.5)])
def test_weights_need_not_be_whole(weights: tuple[float, float]) -> None:
    federation, initial = Federation(), fresh(2)
    grid = federation.grid(*({"rank": 2, "examples": weight} for weight in weights))
    strategy = strategy_of(2)
    run(strategy, grid, initial, 2)
    assert_is(strategy.updates, federation.exact(initial))


def test_what_float16_rounds_off_is_kept() -> None:
    federation, initial = Federation(), fresh(3, dtype=torch.float16)
    strategy = strategy_of(3)
    result = run(strategy, federation.grid(*[{"rank": 3}] * 2), initial, 3)
    assert {tensor.dtype for tensor in state_of(result).values()} == {torch.float16}
    assert_is(strategy.updates, federation.exact(initial))


def test_a_direction_that_nobody_has_learnt_can_be_trained() -> None:
    federation, initial = Federation(), fresh(2)
    strategy = strategy_of(2, client_ranks={1: 2, 2: 6})
    with federation.grid({"rank": 2}) as grid:
        strategy.start(grid, ArrayRecord(initial), num_rounds=1)
        grid.nodes[2] = {"rank": 6}
        strategy.start(grid, ArrayRecord(federation.given[1, 1]), num_rounds=1)
    given = federation.given[1, 2]
    assert given[A_KEY].shape == (6, 10) and not given[B_KEY].any()
    assert (given[A_KEY].norm(dim=1) > 0.2).all()


def test_an_adapter_that_was_trained_before_goes_on() -> None:
    federation = Federation()
    initial = fresh(3)
    initial |= {key: torch.randn_like(t) for key, t in initial.items() if ".lora_B." in key}
    strategy = strategy_of(3)
    run(strategy, federation.grid({"rank": 3}, {"rank": 3}), initial, 2)
    assert_is(strategy.updates, federation.exact(initial))


def test_the_exact_adapter_is_exported(tmp_path: Any) -> None:
    federation, initial = Federation(), fresh(3)
    strategy = strategy_of(3)
    run(strategy, federation.grid(*[{"rank": 3}] * 2), initial, 2)
    folder = export_adapter(strategy.updates, tmp_path, base_model="some/base", is_transposed=False)
    assert_is(import_adapter(folder), federation.exact(initial))


def test_it_takes_fedavgs_arguments_by_place_and_by_name() -> None:
    by_place = NoiseFreeLoRA(0.5, 0.25, 3, weighted_by_key="tokens", peft_config=config_of(2))
    plain = FedAvg(0.5, 0.25, 3, weighted_by_key="tokens")
    for name, value in vars(plain).items():
        assert getattr(by_place, name) == value
    with pytest.raises(TypeError, match="peft_config"):
        NoiseFreeLoRA()  # type: ignore[call-arg]


def test_what_it_cannot_aggregate_is_refused_before_a_message_is_sent() -> None:
    with pytest.raises(AdapterError, match="DoRA"):
        strategy_of(2, peft_config=config_of(2, use_dora=True))
    with pytest.raises(ConfigError, match="before its first round"):
        _ = strategy_of(2).updates
    grid = Federation().grid({"rank": 2})
    for initial, why in ((fresh(3), "its rank is 2"), ({}, "there are no factors")):
        with pytest.raises(AdapterError, match=why):
            run(strategy_of(2), grid, initial, 1)
    assert not grid.sent


def test_it_is_what_fedavg_is_not() -> None:
    federation, initial = Federation(), fresh(3)
    plain = FedAvg(min_train_nodes=1, min_available_nodes=1, fraction_evaluate=0.0)
    result = run(plain, federation.grid(*[{"rank": 3}] * 3), initial, 1)
    exact, averaged = federation.exact(initial), products(state_of(result))
    assert all(relative_error(averaged[name], exact[name]) > 0.1 for name in SHAPES)
