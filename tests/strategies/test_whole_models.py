"""Methods whose clients have the whole model, with real clients: rounds, budgets, and mistakes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hsplit_flower.adapters.round_start import weight_generator
from hsplit_flower.errors import ConfigError, HSplitError
from hsplit_flower.server import ServerEvaluation
from hsplit_flower.server.checkpoint import read_state, write_state
from hsplit_flower.server.federated_strategy import FederatedStrategy
from hsplit_flower.strategies import (
    STRATEGIES,
    FedLoRA,
    FlexLoRA,
    FLoRA,
    FullTuning,
    HetLoRA,
)
from hsplit_flower.types import Scaling
from hsplit_flower.wire.instructions import UPDATE_KEY
from tests.reference import methods as reference
from tests.reference.aggregation import dense
from tests.reference.unsplit import Factors, base_model, trainable_factors, with_peft
from tests.strategies.clients import (
    NAMES,
    NODES,
    NUM_EXAMPLES,
    batches,
    client_app,
    held_out,
)
from tests.strategies.whole_rounds import Rounds

RATE = 5e-3
SCALING = Scaling()


def stepped(model: Any, parameters: Any, own: list[dict[str, torch.Tensor]]) -> None:
    """AdamW's steps, one a batch, from a fresh optimizer."""
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    model.train()
    for batch in own:
        model(**batch, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_flora_is_two_rounds_of_peft_stacked_and_merged_by_hand(model: str) -> None:
    rounds = Rounds(model, FLoRA)
    rounds.run(2)
    base = base_model("llama")
    shapes = {weight.name: weight for weight in rounds.strategy.architecture.weights}
    learnt: dict[str, torch.Tensor] = {}
    for server_round in (1, 2):
        merged = copy.deepcopy(base)
        with torch.no_grad():
            for name, product in learnt.items():
                weight = merged.get_submodule(name).weight
                weight.copy_(weight.double() + product)
        ends: list[Factors] = []
        for partition, node in enumerate(NODES):
            spec = rounds.told(server_round)[node].session
            first: Factors = {}
            for name, rank in spec.ranks.items():
                a = torch.empty(rank, shapes[name].in_features)
                bound = shapes[name].in_features ** -0.5
                a.uniform_(-bound, bound, generator=weight_generator(spec.seed, name))
                first[name] = torch.zeros(shapes[name].out_features, rank), a
            own = with_peft(copy.deepcopy(merged), first, SCALING)
            factors = trainable_factors(own)
            stepped(own, factors.values(), batches(partition, server_round))
            ends.append({n: (factors[f"{n}.b"], factors[f"{n}.a"]) for n in first})
        total = sum(NUM_EXAMPLES.values())
        for name in ends[0]:
            stack_b, stack_a = [], []
            for partition, end in enumerate(ends):
                b, a = (factor.detach().double() for factor in end[name])
                stack_b.append(NUM_EXAMPLES[partition] / total * SCALING.of(len(a)) * b)
                stack_a.append(a)
            product = torch.cat(stack_b, dim=1) @ torch.cat(stack_a)
            learnt[name] = learnt.get(name, torch.zeros_like(product)) + product
            got = dense(rounds.states[server_round - 1].method.updates[name])
            torch.testing.assert_close(got, learnt[name], rtol=2e-3, atol=1e-4)
    assert len({told.session.seed for told in rounds.told(1).values()}) == len(NODES)
    assert all(told.session.start.value == "restart" for told in rounds.told(2).values())


def test_full_tuning_is_two_rounds_of_averaged_models_by_hand(model: str) -> None:
    rounds = Rounds(model, FullTuning, fleet="1GB,1GB,1GB")
    rounds.run(2)
    mean = {n: p.detach().double() for n, p in base_model("llama").named_parameters()}
    for server_round, state in enumerate(rounds.states, start=1):
        ends = []
        for partition in range(len(NODES)):
            own = base_model("llama")
            with torch.no_grad():
                for name, parameter in own.named_parameters():
                    parameter.copy_(mean[name])
            stepped(own, own.parameters(), batches(partition, server_round))
            ends.append({name: p.detach().double() for name, p in own.named_parameters()})
        total = sum(NUM_EXAMPLES.values())
        mean = {
            name: sum(NUM_EXAMPLES[i] / total * end[name] for i, end in enumerate(ends))
            for name in mean
        }
        assert state.method.weights.keys() == mean.keys()
        for name, wanted in mean.items():
            got = state.method.weights[name].double()
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("method", "mean"), [(FedLoRA, reference.fed_lora), (HetLoRA, reference.het_lora)]
)
def test_a_pair_is_the_methods_mean_of_what_clients_sent(
    model: str, method: type[FederatedStrategy], mean: Callable[..., Any]
) -> None:
    rounds = Rounds(model, method)
    rounds.run(2)
    for at, state in enumerate(rounds.states):
        for name in rounds.told(1)[NODES[0]].session.ranks:
            b, a = mean(rounds.effective(at, name))
            got = state.method.updates[name]
            torch.testing.assert_close(got.b.double(), b, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(got.a.double(), a, rtol=1e-5, atol=1e-6)
    if method is FedLoRA:
        ranks = {r for told in rounds.told(1).values() for r in told.session.ranks.values()}
        assert len(ranks) == 1
    else:
        assert rounds.states[-1].method.client_ranks.keys() == set(NODES)


def test_flex_lora_sends_each_client_the_best_part_of_its_rank(model: str) -> None:
    rounds = Rounds(model, FlexLoRA)
    rounds.run(2)
    for name in rounds.told(1)[NODES[0]].session.ranks:
        total = reference.weighted_products(rounds.effective(0, name))
        for node, told in rounds.told(2).items():
            rank = told.session.ranks[name]
            sent = dense(rounds.given(2)[node][name])
            wanted = reference.best_part(total, rank)
            torch.testing.assert_close(sent, wanted, rtol=1e-3, atol=1e-5)


def test_whom_the_whole_model_does_not_fit_is_left_out_by_name(
    model: str, flower_log: list[str]
) -> None:
    rounds = Rounds(model, FedLoRA, fleet="0.3,0.4,1")
    rounds.run(1)
    (report,) = rounds.reports
    assert list(report.clients) == [NODES[2]]
    assert rounds.strategy.state.left_out.keys() == set(NODES[:2])
    for node in NODES[:2]:
        assert any(f"client {NAMES[node]} is left out" in line for line in flower_log)


def test_full_tuning_wants_more_than_adapters_do(model: str) -> None:
    fits = Rounds(model, FedLoRA, fleet="1,1,1GB")
    fits.run(1)
    assert set(fits.reports[0].clients) == set(NODES)
    rounds = Rounds(model, FullTuning, fleet="1,1,1GB")
    rounds.run(1)
    assert list(rounds.reports[0].clients) == [NODES[2]]


@pytest.mark.parametrize("name", ["fed-lora", "het-lora", "flora", "flex-lora", "full-tuning"])
@pytest.mark.one_in(4)
def test_clients_stay_within_their_budgets_as_predicted_and_learn(model: str, name: str) -> None:
    rounds = Rounds(model, STRATEGIES[name], fleet="1GB,1GB,1GB", fraction_evaluate=1.0)
    examples = [batch for partition in range(len(NODES)) for batch in held_out(partition)]
    result = rounds.run(2, evaluate_fn=ServerEvaluation(model, lambda: examples, device="cpu"))
    for report in rounds.reports:
        for client in report.clients.values():
            assert client.dropped is None
            predicted = client.plan.memory.total_bytes
            assert 0.6 * predicted < client.peak_bytes <= 1.05 * predicted
    whole = [result.evaluate_metrics_serverapp[number]["loss"] for number in (0, 1, 2)]
    losses = [result.evaluate_metrics_clientapp[number]["loss"] for number in (1, 2)]
    assert losses == pytest.approx(whole[1:], rel=1e-4)
    assert abs(whole[2] - whole[0]) > 1e-4


@pytest.mark.parametrize("method", [HetLoRA, FullTuning])
def test_its_state_is_written_and_read(
    model: str, method: type[FederatedStrategy], tmp_path: Any
) -> None:
    rounds = Rounds(model, method, fleet="1GB,1GB,1GB")
    rounds.run(1)
    state = rounds.strategy.state
    write_state(state, tmp_path / "state")
    read = read_state(tmp_path / "state")
    assert read.method.client_ranks == state.method.client_ranks
    assert read.method.weights.keys() == state.method.weights.keys()
    for name, weight in state.method.weights.items():
        assert torch.equal(read.method.weights[name], weight)
    assert read.arrays.keys() == state.arrays.keys()


def test_the_other_kind_of_function_is_refused_and_named(model: str) -> None:
    rounds = Rounds(model, FedLoRA)
    with pytest.raises(HSplitError, match="nothing was learnt"):
        rounds.run(1, client_app())
    assert not rounds.reports[0].completed
    for client in rounds.reports[0].clients.values():
        assert client.dropped is not None
        assert "call federated_train and federated_evaluate" in client.dropped


def test_full_tuning_starts_from_no_adapter(model: str) -> None:
    from flwr.app import ArrayRecord

    rounds = Rounds(model, FullTuning)
    arrays = ArrayRecord(
        {"a.lora_A.weight": torch.zeros(1, 4), "a.lora_B.weight": torch.zeros(4, 1)}
    )
    with pytest.raises(ConfigError, match="cannot start from an adapter"):
        rounds.run(1, initial_arrays=arrays)


def test_what_full_tuning_sends_are_all_parameters(model: str) -> None:
    rounds = Rounds(model, FullTuning, fleet="1GB,1GB,1GB")
    rounds.run(1)
    names = {name for name, _ in base_model("llama").named_parameters()}
    for reply in rounds.received[0]:
        assert set(reply.content.array_records[UPDATE_KEY]) == names
