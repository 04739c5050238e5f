"""A step whose gradients are clipped waits on the worker for the norm of the client's gradients."""

import math
from collections.abc import Iterator

import pytest
import torch

from hsplit_flower.adapters import adapter_optimizer
from hsplit_flower.errors import AdapterError, NonFiniteError, WorkerRejectedError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import Gradient, Loss, Settle, Settled
from hsplit_flower.worker.session import Session
from hsplit_flower.worker.stage import Stage
from tests.tolerances import assert_same
from tests.worker.steps import (
    FAMILY,
    SPEC,
    backward,
    factors_of,
    forward,
    is_equal,
)
from tests.workers import load_worker

NORM = 0.05
CLIPPED = SPEC.replace(max_gradient_norm=NORM)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    yield Stage(load_worker(FAMILY))


def _ask(stage: Stage, session: Session, labels: Labels, step: int, **norm: float) -> float:
    """A step's requests; gives the squared norm that the worker tells."""
    if labels is Labels.SERVER:
        reply = stage.handle(session, forward(step, step, **norm))
        assert isinstance(reply, Loss)
    else:
        stage.handle(session, forward(step, step, labels=None, **norm))
        reply = stage.handle(session, backward(step, step))
        assert isinstance(reply, Gradient)
    return reply.squared_norm


@pytest.mark.parametrize("labels", Labels)
def test_a_step_is_taken_when_the_norm_is_told(stage: Stage, labels: Labels) -> None:
    session = stage.open(CLIPPED.replace(labels=labels))
    before = factors_of(session)
    squared_norm = _ask(stage, session, labels, 1)
    gradients = {id(factor): factor.grad.clone() for factor in session.factors}
    wanted = math.fsum(float(g.double().square().sum()) for g in gradients.values())
    assert squared_norm == pytest.approx(wanted, rel=1e-5)
    assert is_equal(factors_of(session), before), "it waits"
    assert session.num_steps == 1

    # What AdamW makes of gradients that were clipped by the norm of both sides.
    twin = stage.open(CLIPPED.replace(labels=labels))
    for own, others in zip(twin.factors, session.factors, strict=True):
        own.grad = gradients[id(others)].clone()
    optimizer = adapter_optimizer(twin.trainables, twin.spec)
    scale = NORM / (math.sqrt(squared_norm + 7.0) + 1e-6)
    for factor in twin.factors:
        factor.grad *= scale
    optimizer.step()
    _ask(stage, session, labels, 2, earlier_squared_norm=7.0)
    for name, factor in factors_of(twin).items():
        assert_same(factors_of(session)[name], factor, name)


def test_the_last_step_is_taken_once_and_its_request_may_come_again(stage: Stage) -> None:
    session = stage.open(CLIPPED)
    _ask(stage, session, Labels.SERVER, 1)
    before = factors_of(session)
    assert stage.handle(session, Settle(step=1, squared_norm=2.0)) == Settled(step=1)
    after = factors_of(session)
    assert not is_equal(after, before)
    assert stage.handle(session, Settle(step=1, squared_norm=2.0)) == Settled(step=1)
    assert is_equal(factors_of(session), after)
    with pytest.raises(WorkerRejectedError, match="comes again with another content"):
        stage.handle(session, Settle(step=1, squared_norm=3.0))


def test_a_forward_request_that_comes_again_settles_nothing_twice(stage: Stage) -> None:
    session = stage.open(CLIPPED)
    _ask(stage, session, Labels.SERVER, 1)
    second = forward(2, 2, earlier_squared_norm=7.0)
    reply = stage.handle(session, second)
    after = factors_of(session)
    assert stage.handle(session, second) is reply
    assert is_equal(factors_of(session), after)


def test_a_pass_that_fails_leaves_the_step_before_it_taken(stage: Stage) -> None:
    session = stage.open(CLIPPED)
    _ask(stage, session, Labels.SERVER, 1)
    nothing = torch.full_like(forward().hidden, math.nan)
    bad = forward(2, 2, hidden=nothing, earlier_squared_norm=7.0)
    (outcome,) = stage.handle_together([(session, bad)])
    assert isinstance(outcome, NonFiniteError)
    after = factors_of(session)
    _ask(stage, session, Labels.SERVER, 2, earlier_squared_norm=7.0)
    assert is_equal(factors_of(session), after), "and the second one waits again"
    assert session.num_steps == 2


@pytest.mark.parametrize(("spec", "step"), [(CLIPPED, 1), (CLIPPED, 2), (SPEC, 1)])
def test_a_norm_that_nothing_waits_for_is_refused(
    stage: Stage, spec: SessionSpec, step: int
) -> None:
    session = stage.open(spec)
    if step == 2 or spec is SPEC:
        _ask(stage, session, Labels.SERVER, 1)
    with pytest.raises(WorkerRejectedError, match="does not wait for the norm"):
        stage.handle(session, Settle(step=step, squared_norm=1.0))


def test_an_adapter_that_others_step_cannot_wait(stage: Stage) -> None:
    with pytest.raises(AdapterError, match="max_gradient_norm = 0 is wanted"):
        stage.open(CLIPPED.replace(shares_adapters=True))
