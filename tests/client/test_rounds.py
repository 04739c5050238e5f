"""Rounds of one client equal plain PEFT training of the whole model with the same resets.

Each round has a new half, a new session, another cut and other ranks; what it trained is aggregated
into the global update that the next one starts from. The reference keeps that update as float64
matrices and decomposes them itself.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from hsplit_flower.adapters import LowRank, initial_update
from hsplit_flower.adapters.round_start import weight_generator
from hsplit_flower.aggregation import ClientUpdate, aggregate_adapters
from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound
from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import Labels, ScaleRule, Start
from tests.families import NUM_BLOCKS, fields
from tests.reference.unsplit import Factors, base_model, train, with_peft
from tests.rounds import TRAINED_RANKS, architecture
from tests.tolerances import assert_same
from tests.workers import Worker, exchange, in_process, load_client, running_worker

NUM_ROUNDS = 5
ALPHA = 4.0
RULES = list(ScaleRule)


def _spec(family: str, number: int, labels: Labels, start: Start) -> SessionSpec:
    ranks = {
        weight.name: TRAINED_RANKS[(index + number) % len(TRAINED_RANKS)]
        for index, weight in enumerate(architecture(family).weights)
    }
    return SessionSpec(
        client=0,
        cut=1 + number % NUM_BLOCKS,
        ranks=ranks,
        labels=labels,
        start=start,
        lora_alpha=ALPHA,
        scale_rule=RULES[number % len(RULES)],
        learning_rate=5e-3,
        seed=100 + number,
    )


def _batches(number: int) -> list[dict[str, Tensor]]:
    return [fields(kind, 3 * number + i) for i, kind in enumerate(("right", "unpadded", "left"))]


def _split_round(
    worker: Worker, family: str, spec: SessionSpec, updates: dict[str, LowRank], number: int
) -> dict[str, LowRank]:
    worker.worker.load_update(updates)
    client = load_client(family, spec.cut, keeps_labels=spec.labels is Labels.CLIENT)
    token = worker.worker.open(spec)
    with exchange(in_process, worker, token) as stream:
        local_round = LocalRound(client, dict(updates), spec, stream)
        batches = [Batch(**batch) for batch in _batches(number)]
        below = local_round.train(batches, probe=False).updates
        trained = {**below, **worker.worker.collect(token).updates}
    initial = {
        name: initial_update(updates[name], rank, spec.start)
        for name, rank in spec.ranks.items()
        if name in trained
    }
    client_update = ClientUpdate(num_examples=7, trained=trained, initial=initial)
    return aggregate_adapters(updates, [client_update])


def _plain_start(update: Tensor, rank: int, name: str, spec: SessionSpec) -> tuple[Tensor, Tensor]:
    """Raw factors ``(b, a)``: leading directions of the update if any, then LoRA's own start."""
    u, sigma, vh = torch.linalg.svd(update)
    known = 0
    if spec.start is not Start.RESTART:
        known = min(rank, int((sigma > 1e-6 * sigma[0]).sum()))
    # The scale is taken off both factors alike, or off ``b`` where a pair goes on as it is.
    of_a = 1.0 if spec.start is Start.FACTORS else math.sqrt(spec.scaling.of(rank))
    root = sigma[:known].sqrt() / of_a
    of_b = spec.scaling.of(rank) / of_a**2
    bound = 1 / math.sqrt(update.shape[1])
    fresh = torch.empty(rank - known, update.shape[1])
    fresh.uniform_(-bound, bound, generator=weight_generator(spec.seed, name))
    b = torch.cat([u[:, :known] * root / of_b, torch.zeros(len(update), rank - known)], dim=1)
    return b.float(), torch.cat([root[:, None] * vh[:known], fresh]).float()


def _plain_round(
    family: str, spec: SessionSpec, updates: dict[str, Tensor], number: int
) -> dict[str, Tensor]:
    factors: Factors = {
        name: _plain_start(update, spec.ranks[name], name, spec) for name, update in updates.items()
    }
    scales = {name: spec.scaling.of(rank) for name, rank in spec.ranks.items()}
    rest = {
        name: update - scales[name] * factors[name][0].double() @ factors[name][1].double()
        for name, update in updates.items()
    }
    model = with_peft(base_model(family, rest), factors, spec.scaling)
    steps = train(model, _batches(number), learning_rate=spec.learning_rate, weight_decay=0.0)
    after = steps[-1].factors
    return {
        name: rest[name] + scales[name] * after[f"{name}.b"].double() @ after[f"{name}.a"].double()
        if spec.ranks[name]
        else update
        for name, update in updates.items()
    }


def _flat(updates: dict[str, Tensor]) -> Tensor:
    return torch.cat([updates[name].double().flatten() for name in sorted(updates)])


@torch.no_grad()
def _logits(family: str, updates: dict[str, Tensor]) -> Tensor:
    return base_model(family, updates)(**fields("right", seed=99)).logits


@pytest.mark.parametrize("start", Start)
@pytest.mark.parametrize(("family", "labels"), [("gpt2", Labels.SERVER), ("llama", Labels.CLIENT)])
@pytest.mark.one_in(4)
def test_five_rounds_equal_plain_training(family: str, labels: Labels, start: Start) -> None:
    weights = architecture(family).weights
    updates = {w.name: LowRank.zeros(w.out_features, w.in_features) for w in weights}
    plain = {name: update.dense().double() for name, update in updates.items()}
    with running_worker(family) as worker:
        for number in range(NUM_ROUNDS):
            spec = _spec(family, number, labels, start)
            updates = _split_round(worker, family, spec, updates, number)
            plain = _plain_round(family, spec, plain, number)
            when = f"round {number + 1}"
            dense = {name: update.dense() for name, update in updates.items()}
            # All weights together: AdamW turns the rounding of a gradient that is almost zero into
            # a step of full size, in one element in some thousands.
            assert_same(_flat(dense), _flat(plain), f"{when}: the update")
            assert_same(_logits(family, dense), _logits(family, plain), f"{when}: the logits")
    assert all(update.rank for update in updates.values())
    assert (_logits(family, plain) - _logits(family, {})).abs().max() > 0.1


def test_the_starting_modes_differ_after_the_second_round() -> None:
    """Else the two rows of the test above would show the same thing twice."""
    family, results = "llama", {}
    for start in Start:
        weights = architecture(family).weights
        updates = {w.name: torch.zeros(w.out_features, w.in_features).double() for w in weights}
        for number in range(2):
            spec = _spec(family, number, Labels.SERVER, start)
            spec = spec.replace(ranks=dict.fromkeys(updates, 2))
            updates = _plain_round(family, spec, updates, number)
        results[start] = updates
    name = architecture(family).weights[0].name
    for one, other in itertools.combinations(Start, 2):
        apart = (results[one][name] - results[other][name]).norm()
        assert apart > 0.01 * results[Start.RESTART][name].norm()
