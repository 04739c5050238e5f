"""Rounds of HSplitLoRA with real clients and a real worker: what comes out, what is told."""

import math
from collections.abc import Mapping

import pytest
import torch
from flwr.app import Message, MessageType
from torch import Tensor

from hsplit_flower.adapters import (
    LowRank,
)
from hsplit_flower.aggregation import Dividing
from hsplit_flower.server import RoundReport, ServerEvaluation
from hsplit_flower.settings import Planning
from hsplit_flower.types import AdapterType, Labels, Start
from tests.reference.aggregation import dense, relative_error
from tests.strategies.clients import (
    NODES,
    NUM_EXAMPLES,
    NUM_STEPS,
    WatchedWorker,
    batches,
    client_app,
    held_out,
    node_configs,
    trained_below,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import FLEET, MAX_RANK, strategy_of, training


def dense_update(updates: Mapping[str, LowRank], name: str) -> Tensor:
    update = updates[name]
    return update.b.double() @ update.a.double()


def leading(matrix: Tensor, rank: int) -> Tensor:
    """The matrix of the leading singular directions, as many as there are."""
    u, sigma, vh = torch.linalg.svd(matrix)
    kept = min(rank, int((sigma > 1e-6 * sigma[0]).sum()))
    return u[:, :kept] @ torch.diag(sigma[:kept]) @ vh[:kept]


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("start", [Start.RESTART, Start.CONTINUE])
@pytest.mark.one_in(3)
def test_a_round_adds_the_mean_of_both_halves_exactly(
    model: str, worker: WatchedWorker, start: Start, labels: Labels
) -> None:
    """``ΔW_g + Σ p_i (B_i A_i − B⁰_i A⁰_i)`` in float64, from what clients and sessions sent."""
    reports: list[RoundReport] = []
    before: dict[str, Tensor] = {}
    learnt: dict[str, Tensor] = {}
    strategy = strategy_of(
        model,
        training=training(start=start, labels=labels),
        planning=Planning(max_rank=MAX_RANK, worker_session_rank=0),
        worker=worker,
        observer=reports.append,
        fleet="0.4,0.7,1.1" if labels is Labels.CLIENT else FLEET,
        adapter_dtype=AdapterType.FLOAT32,
    )

    def remember(message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            before.update({n: dense_update(strategy.adapter.updates, n) for n in names})
            learnt.update({n: dense(strategy.adapter.sum_of(n)) for n in names})

    names = [weight.name for weight in strategy.architecture.weights]
    with LocalGrid(client_app(), node_configs(), before=remember) as grid:
        for server_round in (1, 2):
            strategy.start(grid, strategy.state.arrays, num_rounds=1)
            below = trained_below(grid.received)
            assert set(below) == set(NODES)
            total = sum(NUM_EXAMPLES.values())
            for name in names:
                wanted = learnt[name].clone()
                for partition, node in enumerate(NODES):
                    plan = reports[-1].clients[node].plan
                    trained = {**below[node], **worker.results[node].updates}
                    if rank := plan.ranks[name]:
                        initial = leading(before[name], rank) if start is Start.CONTINUE else 0.0
                        change = dense_update(trained, name) - initial
                        wanted += NUM_EXAMPLES[partition] / total * change
                error = relative_error(strategy.adapter.sum_of(name), wanted)
                assert error <= 2e-6, f"round {server_round}, {name}: off by {error:.1e}"
    assert all(dense_update(strategy.adapter.updates, name).norm() > 0.01 for name in names)
    assert len({reports[0].clients[node].plan.cut for node in NODES}) > 1
    assert len({rank for c in reports[0].clients.values() for rank in c.plan.ranks.values()}) > 1


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.one_in(2)
def test_split_evaluation_equals_that_of_the_whole_model(
    model: str, worker: WatchedWorker, labels: Labels
) -> None:
    examples = [batch for partition in range(3) for batch in held_out(partition)]
    evaluate_fn = ServerEvaluation(model, lambda: examples, device="cpu")
    strategy = strategy_of(
        model,
        worker=worker,
        fraction_evaluate=1.0,
        training=training(labels=labels),
        fleet="0.7,0.9,1.3",
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=2, evaluate_fn=evaluate_fn)
    losses = []
    for server_round in (1, 2):
        split = result.evaluate_metrics_clientapp[server_round]
        whole = result.evaluate_metrics_serverapp[server_round]
        assert split["num-clients"] == 3
        assert split["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        assert split["perplexity"] == pytest.approx(math.exp(split["loss"]), rel=1e-9)
        losses.append(split["loss"])
    assert result.evaluate_metrics_serverapp[0]["loss"] != pytest.approx(losses[1], rel=3e-4)


def test_the_observer_is_told_what_happened(model: str, worker: WatchedWorker) -> None:
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker=worker, observer=reports.append)
    with LocalGrid(client_app(), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=2)
    assert [report.server_round for report in reports] == [1, 2]
    for report in reports:
        assert report.completed
        assert set(report.clients) == set(NODES)
        losses = [client.loss for client in report.clients.values()]
        mean = sum(loss.loss_sum for loss in losses) / sum(loss.num_tokens for loss in losses)
        told = result.train_metrics_clientapp[report.server_round]
        assert told["train-loss"] == pytest.approx(mean)
        assert told["num-clients"] == 3
        for partition, node in enumerate(NODES):
            client = report.clients[node]
            targets = sum(
                int((batch["labels"][:, 1:] != -100).sum())
                for batch in batches(partition, report.server_round)
            )
            assert client.loss.num_tokens == targets
            assert (client.num_steps, client.num_examples) == (NUM_STEPS, NUM_EXAMPLES[partition])
            assert client.dropped is None
            assert client.seconds > 0
        assert report.largest_rank == max(u.rank for u in strategy.adapter.updates.values())
    assert reports[0].replanned
    assert reports[0].planning_reason == "the first round"


@pytest.mark.parametrize("dividing", Dividing)
def test_options_reach_the_aggregation(
    model: str, worker: WatchedWorker, dividing: Dividing
) -> None:
    reports: list[RoundReport] = []
    strategy = strategy_of(
        model, worker=worker, mean_rank=2, rank_cap=2, dividing=dividing, observer=reports.append
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(strategy.adapter.ranks.values()) == {0, 2}, "not adapted, or capped"
    assert 0 < reports[0].held_back_share < 1
    assert reports[0].largest_rank == 2


@pytest.mark.long
def test_a_run_is_the_same_when_it_is_run_again(model: str, worker: WatchedWorker) -> None:
    finals = []
    for _ in range(2):
        strategy = strategy_of(model, worker=worker)
        with LocalGrid(client_app(), node_configs()) as grid:
            strategy.start(grid, num_rounds=2)
        finals.append(strategy.adapter.updates)
    for name, update in finals[0].items():
        # Replies come in another order each time, and sums of floats with it.
        assert relative_error(finals[1][name], dense_update({name: update}, name)) < 1e-4
