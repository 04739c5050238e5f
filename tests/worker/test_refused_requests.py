"""What does not fit a session is refused, and changes nothing of it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hsplit_flower.errors import CodecError, HSplitError, NonFiniteError, WorkerRejectedError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import Backward, Forward
from hsplit_flower.worker import Stage
from tests.families import IGNORED, POSITIONS, VOCABULARY
from tests.worker.steps import (
    AT_CLIENT,
    BATCH,
    FAMILY,
    SPEC,
    backward,
    factors_of,
    forward,
    hidden_state,
    is_equal,
    without_labels,
)
from tests.workers import load_worker


@pytest.fixture
def stage() -> Stage:
    return Stage(load_worker(FAMILY))


def _labels(row: int, column: int, value: int) -> Tensor:
    labels = BATCH["labels"].clone()
    labels[row, column] = value
    return labels


REFUSED: dict[str, tuple[SessionSpec, Forward | Backward, type[HSplitError], str]] = {
    "a step too early": (SPEC, forward(2), WorkerRejectedError, "step 2 .* step 1 is next"),
    "step zero": (SPEC, forward(0), WorkerRejectedError, "step 0 is out of turn"),
    "another width": (
        SPEC,
        forward(hidden=hidden_state(width=8)),
        CodecError,
        "width 8: 16 is wanted",
    ),
    "too many positions": (
        SPEC,
        forward(hidden=hidden_state(seq=POSITIONS + 1)),
        CodecError,
        f"sequence of {POSITIONS + 1}: the model has {POSITIONS} positions",
    ),
    "no labels": (SPEC, without_labels(), CodecError, "absent, .* with labels on the server"),
    "labels": (AT_CLIENT, forward(), CodecError, "sent, .* with labels on the client"),
    "a label too large": (
        SPEC,
        forward(labels=_labels(1, 4, VOCABULARY)),
        CodecError,
        rf"labels must be {IGNORED} or in \[0, {VOCABULARY}\)",
    ),
    "a label below zero": (SPEC, forward(labels=_labels(1, 4, -7)), CodecError, "labels must be"),
    "no targets": (
        SPEC,
        forward(labels=torch.full((3, 9), IGNORED)),
        CodecError,
        "without a single target token",
    ),
    "training in evaluation": (
        SPEC.replace(train=False),
        forward(),
        CodecError,
        "training step in a session that was opened for evaluation",
    ),
    "NaN": (
        SPEC,
        forward(hidden=hidden_state().index_fill(0, torch.tensor(1), math.nan)),
        NonFiniteError,
        "hidden state is not finite",
    ),
    "infinity": (
        SPEC,
        forward(hidden=hidden_state().index_fill(0, torch.tensor(1), math.inf)),
        NonFiniteError,
        "hidden state is not finite",
    ),
    "a gradient for nothing": (
        AT_CLIENT,
        backward(),
        WorkerRejectedError,
        "no forward pass of step 1, micro-batch 0, waits for a gradient",
    ),
    "a gradient where labels are here": (
        SPEC,
        backward(),
        WorkerRejectedError,
        "no forward pass of step 1, .* waits",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(stage: Stage, case: str) -> None:
    spec, request, error, message = REFUSED[case]
    session = stage.open(spec)
    before = factors_of(session)
    with pytest.raises(error, match=message):
        stage.handle(session, request)
    assert session.num_steps == 0
    assert is_equal(factors_of(session), before)
    assert all(t.a.grad is None and t.b.grad is None for t in session.trainables.values())
    good = replace(forward(), train=spec.train)
    if spec.labels is Labels.CLIENT:
        good = replace(good, labels=None)
    assert stage.handle(session, good).step == 1


@pytest.mark.parametrize("labels", Labels)
def test_more_tokens_than_the_run_was_planned_for_are_refused(stage: Stage, labels: Labels) -> None:
    request = forward() if labels is Labels.SERVER else without_labels()
    spec = SPEC.replace(labels=labels, max_tokens=26)
    with pytest.raises(CodecError, match="27 tokens at a time: the session was opened for 26"):
        stage.handle(stage.open(spec), request)
    assert stage.handle(stage.open(spec.replace(max_tokens=27)), request).step == 1


def test_more_targets_than_a_steps_requests_can_bring_are_refused(stage: Stage) -> None:
    spec = SPEC.replace(max_tokens=27)
    request = forward(num_micro_batches=2, total_tokens=27 * 1024 + 1)
    with pytest.raises(CodecError, match="27649 target tokens in the step: at most 27648"):
        stage.handle(stage.open(spec), request)


def test_a_label_on_the_first_token_is_not_looked_at(stage: Stage) -> None:
    """Nothing predicts it."""
    plain = stage.handle(stage.open(SPEC), forward())
    odd = stage.handle(stage.open(SPEC), forward(labels=_labels(0, 0, -7)))
    assert odd.loss_sum == plain.loss_sum


@pytest.mark.parametrize("shape", [(3, 9, 8), (3, 8, 16), (1, 9, 16)])
def test_a_gradient_of_another_shape_is_refused(stage: Stage, shape: tuple[int, ...]) -> None:
    session = stage.open(AT_CLIENT)
    stage.handle(session, without_labels())
    with pytest.raises(CodecError, match=r"\[3, 9, 16\] is wanted, that of the last hidden state"):
        stage.handle(session, Backward(step=1, gradient=torch.ones(shape)))
    assert session.num_steps == 0


def test_a_step_before_the_last_is_out_of_turn(stage: Stage) -> None:
    session = stage.open(SPEC)
    for step in (1, 2, 3):
        stage.handle(session, forward(step))
    with pytest.raises(WorkerRejectedError, match="step 2 is out of turn: step 4 is next"):
        stage.handle(session, forward(2))
