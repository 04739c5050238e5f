"""A recipe is followed on both sides of a cut as PEFT and PyTorch follow it on the whole model."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR
from transformers import get_linear_schedule_with_warmup

from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound, Outcome
from hsplit_flower.settings import Schedule, SessionSpec
from hsplit_flower.types import Labels
from tests.families import fields
from tests.reference.unsplit import Step
from tests.rounds import below, global_update, training_spec, unsplit_steps
from tests.tolerances import assert_same
from tests.workers import Worker, exchange, in_process, load_client, running_worker

FAMILIES = ("gpt2", "llama")
CUT, NUM_STEPS = 2, 20
KINDS = ("right", "unpadded", "left")
BATCHES = [fields(KINDS[seed % len(KINDS)], seed) for seed in range(NUM_STEPS)]


@pytest.fixture(scope="module", params=FAMILIES)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with running_worker(request.param) as running:
        running.worker.load_update(global_update(request.param))
        yield running


@pytest.fixture
def family(worker: Worker) -> str:
    return worker.half.architecture.model_type


def split_round(
    worker: Worker, spec: SessionSpec, batches: Sequence[dict[str, Tensor]], **options: Any
) -> tuple[Outcome, dict[str, Tensor]]:
    """What a client brings home, and the factors of both sides after it, scale folded in."""
    family = worker.half.architecture.model_type
    client = load_client(family, spec.cut, keeps_labels=spec.labels is Labels.CLIENT)
    token = worker.worker.open(spec)
    with exchange(in_process, worker, token) as stream:
        local_round = LocalRound(client, below(family, spec.cut), spec, stream, **options)
        outcome = local_round.train([Batch(**batch) for batch in batches], probe=False)
        updates = {**outcome.updates, **worker.worker.collect(token).updates}
    return outcome, {
        f"{name}.{kind}": factor
        for name, update in updates.items()
        for kind, factor in (("a", update.a), ("b", update.b))
    }


def assert_equal_factors(found: dict[str, Tensor], spec: SessionSpec, wanted: Step) -> None:
    """All factors together are those of the unsplit model.

    One by one some are not: AdamW turns the rounding of a gradient that is almost zero into a step
    of full size.
    """
    assert found.keys() == wanted.factors.keys()
    scales = {name: spec.scaling.of(rank) for name, rank in spec.ranks.items()}
    names = sorted(found)
    folded = [
        wanted.factors[name] * (scales[name[:-2]] if name.endswith(".b") else 1.0) for name in names
    ]
    assert_same(
        torch.cat([found[name].flatten() for name in names]),
        torch.cat([factor.flatten() for factor in folded]),
        "the factors",
    )


ADAM = {"adam_beta1": 0.8, "adam_beta2": 0.97, "adam_epsilon": 1e-5}
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AdamW's own": (ADAM, {"betas": (0.8, 0.97), "epsilon": 1e-5}),
    "linear after a warm-up": (
        {"schedule": Schedule.LINEAR, "warmup_steps": 3.0},
        {"scheduled": lambda o: get_linear_schedule_with_warmup(o, 3, NUM_STEPS)},
    ),
    "cosine": (
        {"schedule": Schedule.COSINE, "final_learning_rate": 1e-3},
        {"scheduled": lambda o: CosineAnnealingLR(o, NUM_STEPS, eta_min=1e-3)},
    ),
}


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("name", SCHEDULES)
def test_twenty_steps_are_those_of_torchs_optimizer_and_schedulers(
    worker: Worker, family: str, labels: Labels, name: str
) -> None:
    recipe, reference = SCHEDULES[name]
    spec = training_spec(family, CUT, labels=labels, num_steps=NUM_STEPS, **recipe)
    _, found = split_round(worker, spec, BATCHES)
    assert_equal_factors(found, spec, unsplit_steps(family, spec, BATCHES, **reference)[-1])


def test_rounds_go_on_with_the_schedule_where_the_last_one_left_it(
    worker: Worker, family: str
) -> None:
    """The second of two rounds, as a client that has just come has it."""
    recipe = {"schedule": Schedule.COSINE, "num_steps": NUM_STEPS // 2, "num_rounds": 2}
    spec = training_spec(family, CUT, server_round=2, **recipe)

    def halfway(optimizer: torch.optim.Optimizer) -> CosineAnnealingLR:
        scheduler = CosineAnnealingLR(optimizer, NUM_STEPS)
        for _ in range(NUM_STEPS // 2):
            optimizer.step()
            scheduler.step()
        return scheduler

    batches = BATCHES[: NUM_STEPS // 2]
    _, found = split_round(worker, spec, batches)
    wanted = unsplit_steps(family, spec, batches, scheduled=halfway)[-1]
    assert_equal_factors(found, spec, wanted)
