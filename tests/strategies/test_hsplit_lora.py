"""Rounds of HSplitLoRA with real clients and a real worker: what comes out, and what was asked."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType
from torch import Tensor

from hsplit_flower.adapters import (
    LowRank,
    export_adapter,
    from_state_dict,
    import_adapter,
    to_state_dict,
)
from hsplit_flower.aggregation import Dividing
from hsplit_flower.errors import ConfigError, InfeasibleBudgetError, UnsupportedModelError
from hsplit_flower.server import RoundReport, ServerEvaluation
from hsplit_flower.settings import PlanSettings, Training
from hsplit_flower.types import Labels, Start
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY
from tests.reference.aggregation import relative_error
from tests.strategies.clients import (
    NODES,
    NUM_EXAMPLES,
    NUM_STEPS,
    WatchedWorker,
    batches,
    client_app,
    held_out,
    node_configs,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import FLEET, MAX_RANK, strategy_of, training


def train_below(grid: LocalGrid) -> dict[int, dict[str, LowRank]]:
    """What the clients sent back in the last round, by node."""
    return {
        reply.metadata.src_node_id: from_state_dict(
            reply.content.array_records["hsplit-update"].to_torch_state_dict()
        )
        for reply in grid.received
    }


def dense_update(updates: Mapping[str, LowRank], name: str) -> Tensor:
    update = updates[name]
    return update.b.double() @ update.a.double()


def leading(matrix: Tensor, rank: int) -> Tensor:
    """The matrix of the leading singular directions, as many as there are."""
    u, sigma, vh = torch.linalg.svd(matrix)
    kept = min(rank, int((sigma > 1e-6 * sigma[0]).sum()))
    return u[:, :kept] @ torch.diag(sigma[:kept]) @ vh[:kept]


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("start", Start)
def test_a_round_adds_the_mean_of_both_halves_exactly(
    model: str, worker: WatchedWorker, start: Start, labels: Labels
) -> None:
    """``ΔW_g + Σ p_i (B_i A_i − B⁰_i A⁰_i)`` in float64, from what clients and sessions sent."""
    reports: list[RoundReport] = []
    before: dict[str, Tensor] = {}
    strategy = strategy_of(
        model,
        training=training(start=start, labels=labels),
        planning=PlanSettings(max_rank=MAX_RANK),
        worker=worker,
        observer=reports.append,
        fleet="0.4,0.7,1.1" if labels is Labels.CLIENT else FLEET,
    )

    def remember(message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            before.update({n: dense_update(strategy.adapter.updates, n) for n in names})

    names = [weight.name for weight in strategy.architecture.weights]
    with LocalGrid(client_app(), node_configs(), before=remember) as grid:
        for server_round in (1, 2):
            strategy.start(grid, strategy.adapter.arrays(), num_rounds=1)
            below = train_below(grid)
            assert set(below) == set(NODES)
            total = sum(NUM_EXAMPLES.values())
            for name in names:
                wanted = before[name].clone()
                for partition, node in enumerate(NODES):
                    plan = reports[-1].clients[node].plan
                    trained = {**below[node], **worker.results[node].updates}
                    if rank := plan.ranks[name]:
                        initial = leading(before[name], rank) if start is Start.CONTINUE else 0.0
                        change = dense_update(trained, name) - initial
                        wanted += NUM_EXAMPLES[partition] / total * change
                error = relative_error(strategy.adapter.updates[name], wanted)
                assert error <= 2e-6, f"round {server_round}, {name}: off by {error:.1e}"
    assert all(dense_update(strategy.adapter.updates, name).norm() > 0.01 for name in names)
    assert len({reports[0].clients[node].plan.cut for node in NODES}) > 1
    assert len({rank for c in reports[0].clients.values() for rank in c.plan.ranks.values()}) > 1


def test_every_client_is_told_its_own_part_and_no_more(model: str, worker: WatchedWorker) -> None:
    strategy = strategy_of(model, worker=worker)
    config = ConfigRecord({"mine": 3})
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=2, train_config=config)
    told = [m for m in grid.sent if m.metadata.message_type == MessageType.TRAIN]
    assert [m.content.config_records["config"]["server-round"] for m in told] == [1] * 3 + [2] * 3
    assert config == ConfigRecord({"mine": 3}), "the caller's record is left as it was"
    for message in told:
        assert message.content.config_records["config"]["mine"] == 3
        order = message.content.config_records[INSTRUCTIONS_KEY]
        received = from_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        assert all(int(name.split(".")[2]) < order["cut"] for name in received)
        assert order["num-examples"] == NUM_EXAMPLES[NODES.index(message.metadata.dst_node_id)]
    tokens = [message.content.config_records[INSTRUCTIONS_KEY]["token"] for message in told]
    assert len(set(tokens)) == len(tokens)


def test_nodes_are_asked_once_what_they_have(model: str, worker: WatchedWorker) -> None:
    strategy = strategy_of(model, worker=worker, fraction_evaluate=1.0)
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=2)
    kinds = [message.metadata.message_type for message in grid.sent]
    assert kinds.count(MessageType.QUERY) == 3
    assert kinds.count(MessageType.TRAIN) == kinds.count(MessageType.EVALUATE) == 6


def test_keys_of_the_users_choice(model: str, worker: WatchedWorker) -> None:
    strategy = strategy_of(
        model, worker=worker, arrayrecord_key="adapter", configrecord_key="settings"
    )
    seen: list[str] = []

    def stop_at_training(message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            seen.extend(message.content)

    # The app of these tests reads "config": its clients fail, which is not the point here.
    with LocalGrid(client_app(), node_configs(), before=stop_at_training) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(seen) == {"adapter", "settings", INSTRUCTIONS_KEY}


@pytest.mark.parametrize("labels", Labels)
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
    assert result.evaluate_metrics_serverapp[0]["loss"] != pytest.approx(losses[1], rel=1e-3)


def test_training_goes_on_from_a_peft_checkpoint(
    model: str, worker: WatchedWorker, tmp_path: Any
) -> None:
    strategy = strategy_of(model, worker=worker)
    with LocalGrid(client_app(), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=1)
        folder = export_adapter(
            strategy.adapter.updates, tmp_path, base_model=model, is_transposed=False
        )
        at_once = strategy.start(grid, result.arrays, num_rounds=1)
        resumed = strategy_of(model, worker=worker)
        again = resumed.start(
            grid, ArrayRecord(to_state_dict(import_adapter(folder))), num_rounds=1
        )
    assert len(result.arrays)
    first, second = at_once.train_metrics_clientapp[1], again.train_metrics_clientapp[1]
    assert first["num-clients"] == second["num-clients"] == len(NODES)
    # Another plan (this one has no importance yet), but the same function at the first step.
    assert second["train-loss"] == pytest.approx(first["train-loss"], rel=0.02)
    loaded = import_adapter(folder)
    for name, update in loaded.items():
        given = result.arrays.to_torch_state_dict()
        wanted = given[f"{name}.lora_B.weight"].double() @ given[f"{name}.lora_A.weight"].double()
        assert relative_error(update, wanted) < 1e-6


def test_an_adapter_of_another_model_is_refused_before_anybody_trains(
    model: str, worker: WatchedWorker
) -> None:
    stranger = {
        "model.layers.7.self_attn.q_proj": LowRank(b=torch.ones(16, 1), a=torch.ones(1, 16))
    }
    strategy = strategy_of(model, worker=worker)
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match=r"model\.layers\.7\.self_attn\.q_proj"),
    ):
        strategy.start(grid, ArrayRecord(to_state_dict(stranger)), num_rounds=1)
    assert not grid.sent


def test_factors_of_another_shape_are_refused_before_anybody_trains(
    model: str, worker: WatchedWorker
) -> None:
    name = "model.layers.0.self_attn.q_proj"
    wrong = {name: LowRank(b=torch.ones(8, 1), a=torch.ones(1, 16))}
    strategy = strategy_of(model, worker=worker)
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match=rf"{name}.*\[8, 16\].*\[16, 16\]"),
    ):
        strategy.start(grid, ArrayRecord(to_state_dict(wrong)), num_rounds=1)
    assert not grid.sent


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


@pytest.mark.parametrize(
    ("fraction", "least", "wanted"), [(1.0, 1, 3), (0.67, 1, 2), (0.3, 1, 1), (0.3, 2, 2)]
)
def test_sampling(
    model: str, worker: WatchedWorker, fraction: float, least: int, wanted: int
) -> None:
    strategy = strategy_of(
        model,
        worker=worker,
        fleet="0.6,0.8,1",
        fraction_train=fraction,
        fraction_evaluate=fraction,
        min_train_nodes=least,
        min_evaluate_nodes=least,
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    for kind in (MessageType.TRAIN, MessageType.EVALUATE):
        nodes = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == kind]
        assert len(nodes) == len(set(nodes)) == wanted


def test_nobody_trains_or_evaluates_where_the_fraction_is_zero(
    model: str, worker: WatchedWorker
) -> None:
    strategy = strategy_of(model, worker=worker, fraction_train=0.0)
    with LocalGrid(client_app(), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=1)
    assert not grid.sent
    assert not result.train_metrics_clientapp


@pytest.mark.parametrize("dividing", Dividing)
def test_options_reach_the_aggregation(
    model: str, worker: WatchedWorker, dividing: Dividing
) -> None:
    reports: list[RoundReport] = []
    strategy = strategy_of(
        model, worker=worker, global_rank_cap=2, dividing=dividing, observer=reports.append
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(strategy.adapter.ranks.values()) == {0, 2}, "not adapted, or capped"
    assert 0 < reports[0].dropped_energy < 1
    assert reports[0].largest_rank == 2


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


def test_a_budget_too_small_for_anybody_names_them_all_before_anybody_trains(
    model: str, worker: WatchedWorker
) -> None:
    strategy = strategy_of(model, worker=worker, fleet="20KB,30KB,25KB")
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(InfeasibleBudgetError) as caught,
    ):
        strategy.start(grid, num_rounds=1)
    for node in NODES:
        assert str(node) in str(caught.value)
    assert "25 kB" in str(caught.value)
    assert "lacks" in str(caught.value)
    assert all(m.metadata.message_type == MessageType.QUERY for m in grid.sent)


def test_bad_settings_are_refused_when_the_strategy_is_made(model: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"fraction_train.*1\.5"):
        strategy_of(model, fraction_train=1.5)
    with pytest.raises(ConfigError, match=r"sequence_length .*is 25: the model has 24 positions"):
        strategy_of(model, training=Training(batch_size=1, sequence_length=25))
    with pytest.raises(UnsupportedModelError, match="no-such-model"):
        strategy_of(str(tmp_path / "no-such-model"))


def test_a_fleet_that_cannot_be_read_is_refused_before_anybody_is_asked(
    model: str, worker: WatchedWorker
) -> None:
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match="fleet 'plenty'"),
    ):
        strategy_of(model, worker=worker, fleet="plenty").start(grid, num_rounds=1)
    assert not grid.sent
