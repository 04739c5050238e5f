"""Predicted memory against the live bytes of real steps, and the laws that it keeps."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, LlamaConfig

from hsplit_flower.adapters import Active, AdapterBank
from hsplit_flower.costs import (
    ModelCosts,
    Workload,
    client_memory,
    trace_costs,
    whole_model_memory,
    worker_memory,
)
from hsplit_flower.costs.client_peak import Moment, client_moments
from hsplit_flower.costs.global_update import frozen_bytes, frozen_bytes_per_rank
from hsplit_flower.costs.metering import LiveBytes
from hsplit_flower.metrics import summed_token_loss
from hsplit_flower.settings import PlanSettings
from hsplit_flower.splitting import Parts
from hsplit_flower.types import Labels, Start, Weight
from tests.costs.real_step import a_batch, build, bytes_of, measure_client

SIZES = {"vocab_size": 200, "num_hidden_layers": 4}
LLAMA = LlamaConfig(
    hidden_size=64, intermediate_size=172, num_attention_heads=4, num_key_value_heads=2, **SIZES
)
GPT2 = GPT2Config(
    n_embd=64,
    n_layer=4,
    n_head=4,
    vocab_size=200,
    resid_pdrop=0.1,
    embd_pdrop=0.0,
    attn_pdrop=0.1,
)
CONFIGS = {"llama": LLAMA, "gpt2": GPT2}
SERVER = PlanSettings(labels=Labels.SERVER, start=Start.RESTART)
CLIENT = PlanSettings(labels=Labels.CLIENT, start=Start.RESTART)


def a_workload(attention: str = "sdpa", dtype_bytes: int = 4) -> Workload:
    return Workload(
        batch_size=4,
        sequence_length=32,
        dtype_bytes=dtype_bytes,
        wire_dtype_bytes=dtype_bytes,
        attention=attention,
    )


@functools.cache
def costs_of(name: str, attention: str = "sdpa", dtype_bytes: int = 4) -> ModelCosts:
    return trace_costs(CONFIGS[name], a_workload(attention, dtype_bytes))


@pytest.mark.parametrize(
    "is_scored", [pytest.param(False, marks=pytest.mark.long), True], ids=["plain", "scored"]
)
@pytest.mark.parametrize("settings", [SERVER, CLIENT], ids=["server", "client"])
@pytest.mark.parametrize(
    ("name", "attention", "dtype_bytes", "cut", "rank"),
    [
        ("llama", "sdpa", 4, 1, 2),
        ("llama", "eager", 4, 3, 8),
        ("llama", "sdpa", 2, 2, 2),
        ("gpt2", "eager", 4, 2, 4),
        ("gpt2", "sdpa", 2, 4, 1),
    ],
)
@pytest.mark.one_in(3)
def test_client_peak_is_predicted_within_a_tenth(
    name: str,
    attention: str,
    dtype_bytes: int,
    cut: int,
    rank: int,
    settings: PlanSettings,
    is_scored: bool,
) -> None:
    costs = costs_of(name, attention, dtype_bytes)
    ranks = {weight.name: rank for weight in costs.weights}
    moments = client_moments(costs, cut=cut, ranks=ranks, settings=settings)
    if not is_scored:
        del moments[Moment.SCORING]
    predicted = max(parts.total_bytes for parts in moments.values())
    measured = measure_client(
        CONFIGS[name],
        costs.workload,
        cut=cut,
        ranks=ranks,
        labels=settings.labels,
        is_scored=is_scored,
    )
    # Messages on the wire are not part of what runs here.
    messages = (2 if settings.labels is Labels.SERVER else 4) * costs.wire_hidden_bytes
    assert measured.peak_bytes <= predicted - messages <= 1.1 * measured.peak_bytes


@pytest.mark.parametrize(
    "update_rank", [3, 36, *(pytest.param(rank, marks=pytest.mark.long) for rank in (30, 64))]
)
@pytest.mark.parametrize("start", list(Start))
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.one_in(5)
def test_client_peak_is_predicted_with_any_update(
    name: str, start: Start, update_rank: int
) -> None:
    """From few directions to where the last weights' factors hold more numbers than they do."""
    workload = Workload(batch_size=2, sequence_length=8)
    costs = trace_costs(CONFIGS[name], workload)
    ranks = {weight.name: 2 for weight in costs.weights}
    updates = {w.name: min(update_rank, w.in_features, w.out_features) for w in costs.weights}
    predicted = client_memory(
        costs, cut=3, ranks=ranks, settings=PlanSettings(start=start), update_ranks=updates
    ).total_bytes
    measured = measure_client(
        CONFIGS[name],
        workload,
        cut=3,
        ranks=ranks,
        update_ranks=updates,
        start=start,
        is_scored=True,
    ).peak_bytes
    assert 0.95 * measured <= predicted <= 1.1 * measured


@pytest.mark.parametrize("labels", list(Labels))
def test_worker_peak_is_predicted_within_a_tenth(labels: Labels) -> None:
    costs = costs_of("llama")
    workload = costs.workload
    settings = PlanSettings(labels=labels, start=Start.RESTART)
    cut, rank = 1, 4
    half = build(LLAMA, workload, Parts.of_worker(cut, 4))
    weights = half.architecture.weights_in(half.parts.span)
    bank = AdapterBank(half.model, [weight.name for weight in weights])
    factors = {
        w.name: (
            torch.randn(w.out_features, rank, requires_grad=True),
            torch.randn(rank, w.in_features, requires_grad=True),
        )
        for w in weights
    }
    optimizer = torch.optim.AdamW([factor for pair in factors.values() for factor in pair])
    active = Active(terms={name: [(b, a, 2.0)] for name, (b, a) in factors.items()})
    resident = [*half.model.parameters(), *half.model.buffers()]
    resident += [factor for pair in factors.values() for factor in pair]
    tokens, mask = a_batch(workload)
    with LiveBytes(ignore=[*resident, tokens, mask]) as live:
        for _ in range(2):
            hidden = torch.randn(4, 32, 64, requires_grad=True)
            with bank.activate(active):
                if labels is Labels.SERVER:
                    summed_token_loss(half.logits(hidden, mask, start=cut), tokens).backward()
                else:
                    last = half.hidden(hidden, mask, start=cut)
                    last.backward(torch.randn_like(last))
                    del last
            optimizer.step()
            optimizer.zero_grad()
    measured = live.peak_bytes + bytes_of(resident)
    ranks = {weight.name: rank for weight in weights}
    # One session is open: nobody else's step waits.
    predicted = worker_memory(costs, sessions=[(cut, ranks)], settings=settings).total_bytes
    messages = 2 * costs.wire_hidden_bytes
    # Nothing is scored here, which matters where that is the worker's highest moment.
    head = costs.head.saved_bytes + costs.head.working_bytes if labels is Labels.SERVER else 0.0
    block = costs.passes[0]
    unscored = max(block.scoring_bytes, head) - max(block.working_bytes, head)
    assert measured <= predicted - messages - unscored <= 1.1 * measured


def test_worker_holds_its_base_once_and_adapters_per_session() -> None:
    costs = costs_of("llama")
    ranks = {weight.name: 4 for weight in costs.weights}
    one, two, low = (
        worker_memory(costs, sessions=sessions, settings=SERVER)
        for sessions in ([(2, ranks)], [(2, ranks), (2, ranks)], [(2, ranks), (1, ranks)])
    )
    # The half is loaded from the smallest cut that is allowed, whichever are chosen.
    half_bytes = costs.exit_bytes + sum(costs.block_bytes[1:])
    assert low.weights_bytes == two.weights_bytes == one.weights_bytes == half_bytes
    deep = worker_memory(costs, sessions=[(2, ranks)], settings=SERVER.replace(min_cut=2))
    assert deep.weights_bytes == half_bytes - costs.block_bytes[1]
    assert two.adapters_bytes == 2 * one.adapters_bytes
    # One step runs at a time.
    assert two.activations_bytes == one.activations_bytes
    waiting = worker_memory(costs, sessions=[(2, ranks), (2, ranks)], settings=CLIENT)
    assert waiting.activations_bytes > two.activations_bytes


def test_parts_by_hand() -> None:
    costs = costs_of("llama")
    block = [weight for weight in costs.weights if weight.block == 0]
    ranks = {weight.name: 3 for weight in costs.weights}
    moments = client_moments(costs, cut=2, ranks=ranks, settings=SERVER)
    parts = moments[Moment.TRAINING]
    assert parts.weights_bytes == costs.entry_bytes + 2 * costs.block_bytes[0]
    per_rank = sum(weight.in_features + weight.out_features for weight in block)
    # Parameters and moments of both blocks, gradients of one at a time.
    assert parts.adapters_bytes == 2 * 3 * 12 * per_rank + 3 * 4 * per_rank
    assert parts.probe_bytes == 0
    assert parts.head_bytes == 0
    assert parts.frozen_factors_bytes == 0
    assert parts.smashed_data_bytes == 4 * (4 * 32 * 64 * 4)
    scoring, updating = moments[Moment.SCORING], moments[Moment.UPDATING]
    assert scoring.adapters_bytes == (2 * 3 + 3) * 4 * per_rank
    # With every weight adapted all inputs are there anyway.
    assert scoring.probe_bytes == 0
    bare = client_moments(costs, cut=2, ranks={}, settings=SERVER)[Moment.SCORING]
    assert bare.probe_bytes >= 2 * costs.passes[0].layer_inputs_bytes > 0
    assert updating.adapters_bytes == 2 * 3 * 20 * per_rank
    assert updating.activations_bytes == costs.shared_bytes
    peak = client_memory(costs, cut=2, ranks=ranks, settings=SERVER)
    assert peak.total_bytes == max(moment.total_bytes for moment in moments.values())


def test_a_client_with_labels_holds_a_tied_embedding_once() -> None:
    costs = costs_of("gpt2")
    assert costs.tied_bytes == 200 * 64 * 4
    client = client_moments(costs, cut=1, ranks={}, settings=CLIENT)[Moment.TRAINING]
    norm_bytes = 2 * 64 * 4
    running = costs.head.saved_bytes + costs.head.working_bytes - costs.passes[0].working_bytes
    assert client.head_bytes == norm_bytes + max(0, running)
    worker = worker_memory(costs, sessions=[(1, {})], settings=SERVER)
    assert worker.weights_bytes == norm_bytes + costs.tied_bytes + sum(costs.block_bytes[1:])


@pytest.fixture(scope="module", params=[2, 4])
def traced(request: pytest.FixtureRequest) -> ModelCosts:
    """Traced before anything is drawn: it takes longer than a draw may."""
    return costs_of("llama", "sdpa", request.param)


@given(st.data())
def test_memory_grows_with_cut_ranks_and_update(traced: ModelCosts, data: st.DataObject) -> None:
    costs = traced
    settings = data.draw(st.sampled_from([SERVER, CLIENT]))
    names = [weight.name for weight in costs.weights]
    ranks = dict(
        zip(names, data.draw(st.lists(st.integers(0, 9), min_size=28, max_size=28)), strict=False)
    )
    cut = data.draw(st.integers(1, 3))
    here = client_memory(costs, cut=cut, ranks=ranks, settings=settings).total_bytes
    deeper = client_memory(costs, cut=cut + 1, ranks=ranks, settings=settings).total_bytes
    assert deeper > here
    raised = {**ranks, names[0]: ranks[names[0]] + 1}
    higher = client_memory(costs, cut=cut, ranks=raised, settings=settings).total_bytes
    assert higher > here
    held = client_memory(
        costs, cut=cut, ranks=ranks, settings=settings, update_ranks=dict.fromkeys(names, 2)
    ).total_bytes
    assert held > here


def test_a_frozen_update_is_factored_until_the_matrix_is_cheaper() -> None:
    costs = costs_of("llama")
    weight = Weight(name="w", block=0, in_features=30, out_features=60)
    # Factors of rank 20 hold as many numbers as the matrix.
    assert frozen_bytes(costs, weight, 20) == 4 * 30 * 60
    assert frozen_bytes(costs, weight, 21) == 0
    assert frozen_bytes_per_rank(costs, weight, 21, start=Start.CONTINUE) == 4 * 90
    assert frozen_bytes_per_rank(costs, weight, 21, start=Start.RESTART) == 0
    assert frozen_bytes_per_rank(costs, weight, 20, start=Start.CONTINUE) == 0
    # A bfloat16 matrix cannot take an update in without rounding it.
    assert frozen_bytes(costs_of("llama", "sdpa", 2), weight, 21) == 21 * 4 * 90


def test_whole_model_is_a_client_that_holds_everything() -> None:
    costs = costs_of("llama")
    whole = whole_model_memory(costs, rank=8)
    assert whole.weights_bytes == costs.entry_bytes + sum(costs.block_bytes)
    numbers = 8 * sum(w.parameters_per_rank for w in costs.weights)
    assert 4 * numbers < whole.adapters_bytes <= 20 * numbers
    assert whole.head_bytes > 0
    assert whole.smashed_data_bytes == 0


def test_checkpointing_keeps_one_block_at_a_time() -> None:
    costs = costs_of("llama")
    ranks = {weight.name: 2 for weight in costs.weights}
    kept, again = (
        [
            client_memory(
                costs, cut=cut, ranks=ranks, settings=SERVER, checkpointing=checkpointing
            ).activations_bytes
            for cut in (1, 2, 3)
        ]
        for checkpointing in (False, True)
    )
    # Another block costs its input only.
    assert again[2] - again[1] == again[1] - again[0] == costs.hidden_bytes
    assert kept[2] - kept[1] > 3 * costs.hidden_bytes
    assert again[0] >= kept[0]
