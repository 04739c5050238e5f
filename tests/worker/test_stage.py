"""One step of one session: what is applied, what is applied once, and what is not applied."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hsplit_flower.errors import NonFiniteError
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import Forward, Gradient, LastHidden, Loss
from hsplit_flower.worker import Stage
from hsplit_flower.worker.session import Session
from tests.families import IGNORED
from tests.tolerances import assert_same
from tests.worker.steps import (
    AT_CLIENT,
    FAMILY,
    SPEC,
    backward,
    factors_of,
    forward,
    is_equal,
    without_labels,
)
from tests.workers import load_worker


@pytest.fixture
def stage() -> Stage:
    return Stage(load_worker(FAMILY))


def _poisoned_loss(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Forward:
    compute = stage.half.logits
    monkeypatch.setattr(stage.half, "logits", lambda *a, **k: compute(*a, **k) * math.nan)
    return forward()


def _poisoned_gradient(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Forward:
    """Finite numbers forth, an infinite slope back: the square root at zero."""
    compute = stage.half.logits

    def logits(*args: Tensor, **kwargs: int) -> Tensor:
        plain = compute(*args, **kwargs)
        return plain + (plain - plain.detach()).square().sum().sqrt()

    monkeypatch.setattr(stage.half, "logits", logits)
    return forward()


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        (_poisoned_loss, "loss is nan: the step is not taken"),
        (_poisoned_gradient, "gradient above"),
    ],
)
@pytest.mark.parametrize("probe", [False, True])
def test_what_is_not_finite_is_not_applied(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    poison: Callable[..., Forward],
    message: str,
    probe: bool,
) -> None:
    session, other = stage.open(SPEC), stage.open(SPEC)
    before = factors_of(session)
    with monkeypatch.context() as poisoned:
        request = replace(poison(poisoned, stage), probe=probe)
        wanted = "importance of" if probe and poison is _poisoned_gradient else message
        with pytest.raises(NonFiniteError, match=wanted):
            stage.handle(session, request)
    assert session.num_steps == 0
    assert session.importance == {}
    assert is_equal(factors_of(session), before)
    # Nothing of it is left in the next step either.
    got, clean = stage.handle(session, forward()), stage.handle(other, forward())
    assert torch.equal(got.gradient, clean.gradient)
    assert is_equal(factors_of(session), factors_of(other))


def test_a_gradient_from_the_client_that_is_not_finite_is_not_applied(stage: Stage) -> None:
    session = stage.open(AT_CLIENT)
    before = factors_of(session)
    stage.handle(session, without_labels())
    with pytest.raises(NonFiniteError, match="gradient above the cut is not finite"):
        stage.handle(session, replace(backward(), gradient=torch.full((3, 9, 16), math.nan)))
    assert session.num_steps == 0
    assert is_equal(factors_of(session), before)


def test_repeated_requests_are_answered_from_memory(stage: Stage) -> None:
    spec = AT_CLIENT.replace(in_flight=2)
    once, often = stage.open(spec), stage.open(spec)
    for step in (1, 2):
        for request in (without_labels(step, seed=step), backward(step, seed=step)):
            wanted = stage.handle(once, request)
            replies = [stage.handle(often, request) for _ in range(3)]
            assert all(reply is replies[0] for reply in replies)
            assert type(replies[0]) is type(wanted)
        # The whole step once more, as by a client whose stream broke at its end.
        assert isinstance(stage.handle(often, without_labels(step, seed=step)), LastHidden)
        assert isinstance(stage.handle(often, backward(step, seed=step)), Gradient)
    assert once.num_steps == often.num_steps == 2
    assert is_equal(factors_of(once), factors_of(often))


def _run_step(session: Session, stage: Stage, *, probe: bool) -> Tensor:
    """One step; the gradient that the client is given."""
    labels = session.spec.labels
    request = forward() if labels is Labels.SERVER else without_labels()
    reply = stage.handle(session, replace(request, probe=probe))
    if labels is Labels.CLIENT:
        reply = stage.handle(session, backward())
    assert isinstance(reply, Loss | Gradient)
    assert reply.gradient is not None
    return reply.gradient


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("labels", Labels)
def test_checkpointed_blocks_make_no_difference(stage: Stage, labels: Labels, probe: bool) -> None:
    plain, checkpointed = (stage.open(SPEC.replace(labels=labels)) for _ in range(2))
    wanted = _run_step(plain, stage, probe=probe)
    stage.half.checkpointing = True
    assert_same(_run_step(checkpointed, stage, probe=probe), wanted)
    assert bool(checkpointed.importance) is probe
    assert checkpointed.importance == pytest.approx(plain.importance, rel=1e-5)
    assert checkpointed.num_steps == 1


def test_evaluation_trains_nothing_and_scores_nothing(stage: Stage) -> None:
    session = stage.open(SPEC.replace(train=False))
    before = factors_of(session)
    for step in (1, 2):
        reply = stage.handle(session, forward(step, train=False, probe=True))
        assert isinstance(reply, Loss)
        assert reply.gradient is None
    assert is_equal(factors_of(session), before)
    assert session.importance == {}
    assert session.num_steps == 2


def test_dropout_is_on_while_training_only(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    compute = stage.half.logits

    def logits(*args: Tensor, **kwargs: int) -> Tensor:
        seen.append(stage.half.model.training)
        return compute(*args, **kwargs)

    monkeypatch.setattr(stage.half, "logits", logits)
    session = stage.open(SPEC)
    for step, train in enumerate([True, False, True], start=1):
        stage.handle(session, forward(step, train=train))
    assert seen == [True, False, True]


def test_evaluation_may_have_batches_without_targets(stage: Stage) -> None:
    session = stage.open(SPEC.replace(train=False))
    nothing = torch.full((3, 9), IGNORED)
    reply = stage.handle(session, forward(labels=nothing, train=False))
    assert (reply.loss_sum, reply.num_tokens) == (0.0, 0)


def test_a_training_session_may_evaluate_between_its_steps(stage: Stage) -> None:
    plain, mixed = stage.open(SPEC), stage.open(SPEC)
    stage.handle(plain, forward(1))
    stage.handle(plain, forward(2, seed=2))
    stage.handle(mixed, forward(1))
    stage.handle(mixed, forward(2, seed=9, train=False))
    stage.handle(mixed, forward(3, seed=2))
    assert is_equal(factors_of(mixed), factors_of(plain))
