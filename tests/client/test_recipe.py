"""A recipe is followed on both sides of a cut as PEFT and PyTorch follow it on the whole model."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR
from transformers import get_linear_schedule_with_warmup

from hsplit_flower.adapters import LowRank
from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound, Outcome
from hsplit_flower.client.whole_round import AdapterRound
from hsplit_flower.devices.memory_budget import Unmetered
from hsplit_flower.settings import Schedule, SessionSpec
from hsplit_flower.splitting import Parts, load_half
from hsplit_flower.types import Labels
from hsplit_flower.wire.instructions import WholeTraining
from tests.families import NUM_BLOCKS, checkpoint, fields
from tests.reference.unsplit import Step
from tests.rounds import architecture, below, global_update, training_spec, unsplit_steps
from tests.tolerances import assert_same
from tests.workers import (
    TRANSPORTS,
    Connect,
    Worker,
    exchange,
    in_process,
    load_client,
    running_worker,
)

# Each way of having labels is tried with one family; all of both are tried without a recipe.
FAMILIES = {"gpt2": Labels.SERVER, "llama": Labels.CLIENT}
CUT, NUM_STEPS = 2, 20
ROWS = slice(0, 2), slice(2, 3)
KINDS = ("right", "unpadded", "left")
BATCHES = [fields(KINDS[seed % len(KINDS)], seed) for seed in range(NUM_STEPS)]


@pytest.fixture(scope="module", params=FAMILIES)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with running_worker(request.param) as running:
        running.worker.load_update(global_update(request.param))
        yield running


@pytest.fixture
def labels(family: str) -> Labels:
    return FAMILIES[family]


def split_round(
    worker: Worker,
    spec: SessionSpec,
    batches: Sequence[dict[str, Tensor]],
    *,
    connect: Connect = in_process,
    is_checkpointed: bool = False,
    **options: Any,
) -> tuple[Outcome, dict[str, Tensor]]:
    """What a client brings home, and the factors of both sides after it, scale folded in."""
    family = worker.half.architecture.model_type
    client = load_client(family, spec.cut, keeps_labels=spec.labels is Labels.CLIENT)
    client.checkpointing = is_checkpointed
    token = worker.worker.open(spec)
    with exchange(connect, worker, token) as stream:
        local_round = LocalRound(client, below(family, spec.cut), spec, stream, **options)
        outcome = local_round.train([Batch(**batch) for batch in batches], probe=False)
        updates = {**outcome.updates, **worker.worker.collect(token).updates}
    return outcome, by_factor(updates)


def by_factor(updates: Mapping[str, LowRank]) -> dict[str, Tensor]:
    return {
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


NORM = 1.0
ADAM = {"adam_beta1": 0.8, "adam_beta2": 0.97, "adam_epsilon": 1e-5}
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AdamW's own": (ADAM, {"betas": (0.8, 0.97), "epsilon": 1e-5}),
    "linear after a warm-up": (
        {"schedule": Schedule.LINEAR, "warmup_steps": 3.0},
        {"scheduled": lambda o: get_linear_schedule_with_warmup(o, 3, NUM_STEPS)},
    ),
    "cosine": (
        {"schedule": Schedule.COSINE, "final_learning_rate": 1e-3},
        {"scheduled": lambda o: CosineAnnealingLR(o, NUM_STEPS, eta_min=1e-3)},
    ),
    "smoothed labels": ({"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
    # Of norms from 0.8 to 6, so that some are clipped and some are not.
    "clipped gradients": ({"max_gradient_norm": NORM}, {"max_norm": NORM}),
    "dropout": ({"lora_dropout": 0.3, "dropout_seed": 17}, {}),
    "accumulated gradients": ({"gradient_accumulation_steps": 2}, {"accumulated": 2}),
}


@functools.cache
def _unsplit(family: str, name: str) -> list[Step]:
    recipe, reference = RECIPES[name]
    return unsplit_steps(family, training_spec(family, CUT, **recipe), BATCHES, **reference)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.one_in(2)
def test_twenty_batches_are_learnt_from_as_torch_and_peft_do(
    worker: Worker, family: str, labels: Labels, name: str
) -> None:
    spec = training_spec(family, CUT, labels=labels, num_steps=NUM_STEPS, **RECIPES[name][0])
    outcome, found = split_round(worker, spec, BATCHES)
    wanted = _unsplit(family, name)
    assert outcome.num_steps == len(wanted)
    assert_equal_factors(found, spec, wanted[-1])


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


@pytest.mark.parametrize("size", [0, 2])
def test_the_last_batches_make_a_step_and_micro_batches_change_nothing(
    worker: Worker, family: str, labels: Labels, size: int
) -> None:
    """Seven batches are two steps of three and one of one, and their loss is that of all tokens."""
    recipe: dict[str, Any] = {"gradient_accumulation_steps": 3, "label_smoothing": 0.2}
    spec = training_spec(family, CUT, labels=labels, in_flight=2, **recipe)
    outcome, found = split_round(worker, spec, BATCHES[:7], micro_batch_size=size)
    wanted = unsplit_steps(family, spec, BATCHES[:7], accumulated=3, label_smoothing=0.2)
    assert outcome.num_steps == len(wanted) == 3
    assert (outcome.num_examples, outcome.num_batch_tokens) == (7 * 3, 7 * 3 * 9)
    assert outcome.last_loss.mean == pytest.approx(wanted[-1].loss, rel=1e-5)
    assert_equal_factors(found, spec, wanted[-1])


def test_evaluation_smooths_and_accumulates_nothing(
    worker: Worker, family: str, labels: Labels
) -> None:
    losses = []
    for recipe in ({}, {"gradient_accumulation_steps": 3, "label_smoothing": 0.2}):
        spec = SessionSpec(client=0, cut=CUT, labels=labels, train=False, **recipe)
        client = load_client(family, CUT, keeps_labels=labels is Labels.CLIENT)
        token = worker.worker.open(spec)
        with exchange(in_process, worker, token) as stream:
            local_round = LocalRound(client, below(family, CUT), spec, stream)
            losses.append(local_round.evaluate([Batch(**batch) for batch in BATCHES[:4]]).loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("connect", TRANSPORTS.values(), ids=TRANSPORTS)
def test_the_norm_by_which_both_sides_clip_is_that_of_the_whole_model(
    worker: Worker, family: str, labels: Labels, connect: Connect
) -> None:
    """Of all micro-batches of a step; and the last step is taken on both sides, too."""
    recipe: dict[str, Any] = {"max_gradient_norm": NORM, "gradient_accumulation_steps": 2}
    spec = training_spec(family, CUT, labels=labels, in_flight=2, **recipe)
    _, found = split_round(worker, spec, BATCHES[:5], connect=connect, micro_batch_size=2)
    wanted = unsplit_steps(family, spec, BATCHES[:5], accumulated=2, max_norm=NORM)
    norms = [
        torch.stack([gradient.norm() for gradient in step.gradients.values()]).norm().item()
        for step in wanted
    ]
    assert max(norms) > NORM, "something is clipped"
    assert_equal_factors(found, spec, wanted[-1])


def test_a_client_that_trains_nothing_has_the_workers_norm_alone(
    worker: Worker, family: str
) -> None:
    above = {w.name: 2 for w in architecture(family).weights if w.block >= CUT}
    spec = training_spec(family, CUT, max_gradient_norm=0.5).replace(ranks=above)
    _, found = split_round(worker, spec, BATCHES[:3])
    wanted = unsplit_steps(family, spec, BATCHES[:3], max_norm=0.5)[-1]
    assert_equal_factors(found, spec, wanted)


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_masks_belong_to_micro_batches_and_come_again_when_blocks_run_again(
    worker: Worker, family: str, labels: Labels, is_checkpointed: bool
) -> None:
    """Two micro-batches are on the wire at a time, so that backward passes come late."""
    recipe: dict[str, Any] = {"lora_dropout": 0.3, "dropout_seed": 17}
    spec = training_spec(family, CUT, labels=labels, in_flight=2, **recipe)
    worker.half.checkpointing = is_checkpointed
    try:
        _, found = split_round(
            worker, spec, BATCHES[:3], micro_batch_size=2, is_checkpointed=is_checkpointed
        )
    finally:
        worker.half.checkpointing = False
    parts = [{k: v[rows] for k, v in b.items()} for b in BATCHES[:3] for rows in ROWS]
    wanted = unsplit_steps(family, spec, parts, accumulated=len(ROWS))
    assert_equal_factors(found, spec, wanted[-1])


ALL: dict[str, Any] = {
    **ADAM,
    "schedule": Schedule.LINEAR,
    "warmup_steps": 2.0,
    "num_steps": 4,
    "lora_dropout": 0.2,
    "dropout_seed": 17,
    "label_smoothing": 0.1,
    "max_gradient_norm": NORM,
    "gradient_accumulation_steps": 2,
}
ALL_OF_TORCH: dict[str, Any] = {
    "betas": (0.8, 0.97),
    "epsilon": 1e-5,
    "scheduled": lambda o: get_linear_schedule_with_warmup(o, 2, 4),
    "label_smoothing": 0.1,
    "max_norm": NORM,
    "accumulated": 2,
}


@pytest.mark.parametrize("is_whole", [False, True])
def test_all_of_a_recipe_at_once(worker: Worker, family: str, is_whole: bool) -> None:
    """On two halves, and on a client that has the whole model."""
    cut = NUM_BLOCKS if is_whole else CUT
    spec = training_spec(family, cut, labels=FAMILIES[family], **ALL)
    if is_whole:
        half = load_half(str(checkpoint(family)), Parts.whole(NUM_BLOCKS))
        whole = WholeTraining(is_whole=True)
        loop = AdapterRound(half, dict(global_update(family)), spec, whole, Unmetered())
        found = loop.train([Batch(**batch) for batch in BATCHES[:8]], probe=False).updates
        factors = by_factor(found)
    else:
        _, factors = split_round(worker, spec, BATCHES[:8])
    wanted = unsplit_steps(family, spec, BATCHES[:8], **ALL_OF_TORCH)
    assert_equal_factors(factors, spec, wanted[-1])
