"""One step of one session: what is refused, what is applied, and what is applied once."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hsplit_flower.errors import (
    AdapterError,
    CodecError,
    HSplitError,
    NonFiniteError,
    SplitError,
    WorkerRejectedError,
)
from hsplit_flower.types import Labels, SessionSpec
from hsplit_flower.wire.messages import Backward, Forward, Gradient, LastHidden, Loss
from hsplit_flower.worker import Stage
from hsplit_flower.worker.session import Session
from tests.families import IGNORED, POSITIONS, VOCABULARY
from tests.rounds import architecture
from tests.tolerances import assert_same
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
        replace(SPEC, train=False),
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
    spec = replace(SPEC, labels=labels, max_tokens=26)
    with pytest.raises(CodecError, match="27 tokens at a time: the session was opened for 26"):
        stage.handle(stage.open(spec), request)
    assert stage.handle(stage.open(replace(spec, max_tokens=27)), request).step == 1


def test_more_targets_than_a_steps_requests_can_bring_are_refused(stage: Stage) -> None:
    spec = replace(SPEC, max_tokens=27)
    request = forward(num_micro_batches=2, total_tokens=27 * 1024 + 1)
    with pytest.raises(CodecError, match="27649 target tokens in the step: at most 27648"):
        stage.handle(stage.open(spec), request)


def test_a_label_on_the_first_token_is_not_looked_at(stage: Stage) -> None:
    """Nothing predicts it."""
    plain = stage.handle(stage.open(SPEC), forward())
    odd = stage.handle(stage.open(SPEC), forward(labels=_labels(0, 0, -7)))
    assert odd.loss_sum == plain.loss_sum


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


@pytest.mark.parametrize("shape", [(3, 9, 8), (3, 8, 16), (1, 9, 16)])
def test_a_gradient_of_another_shape_is_refused(stage: Stage, shape: tuple[int, ...]) -> None:
    session = stage.open(AT_CLIENT)
    stage.handle(session, without_labels())
    with pytest.raises(CodecError, match=r"\[3, 9, 16\] is wanted, that of the last hidden state"):
        stage.handle(session, Backward(step=1, gradient=torch.ones(shape)))
    assert session.num_steps == 0


def test_repeated_requests_are_answered_from_memory(stage: Stage) -> None:
    spec = replace(AT_CLIENT, in_flight=2)
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
    plain, checkpointed = (stage.open(replace(SPEC, labels=labels)) for _ in range(2))
    wanted = _run_step(plain, stage, probe=probe)
    stage.half.checkpointing = True
    assert_same(_run_step(checkpointed, stage, probe=probe), wanted)
    assert bool(checkpointed.importance) is probe
    assert checkpointed.importance == pytest.approx(plain.importance, rel=1e-5)
    assert checkpointed.num_steps == 1


def test_a_step_before_the_last_is_out_of_turn(stage: Stage) -> None:
    session = stage.open(SPEC)
    for step in (1, 2, 3):
        stage.handle(session, forward(step))
    with pytest.raises(WorkerRejectedError, match="step 2 is out of turn: step 4 is next"):
        stage.handle(session, forward(2))


def test_evaluation_trains_nothing_and_scores_nothing(stage: Stage) -> None:
    session = stage.open(replace(SPEC, train=False))
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
    session = stage.open(replace(SPEC, train=False))
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


def test_a_session_adapts_the_weights_above_its_cut_that_have_a_rank(stage: Stage) -> None:
    for cut in (1, 2, 3):
        session = stage.open(replace(SPEC, cut=cut))
        wanted = {
            w.name: SPEC.ranks[w.name]
            for w in architecture(FAMILY).weights
            if w.block >= cut and SPEC.ranks[w.name]
        }
        assert {name: t.a.shape[0] for name, t in session.trainables.items()} == wanted


@pytest.mark.parametrize("cut", [0, 4])
def test_a_cut_that_the_model_does_not_have_is_refused(stage: Stage, cut: int) -> None:
    with pytest.raises(SplitError, match=f"cut {cut} is out of range"):
        stage.open(replace(SPEC, cut=cut))


@pytest.mark.parametrize(
    ("ranks", "message"),
    [({"nope": 2}, r"no weights \['nope'\]"), ({"o_proj": 10**6}, "rank 1000000 for .*at most 16")],
)
def test_ranks_that_the_model_cannot_have_are_refused(
    stage: Stage, ranks: dict[str, int], message: str
) -> None:
    names = {
        weight.name.rpartition(".")[2]: weight.name for weight in stage.half.architecture.weights
    }
    asked = {names.get(name, name): rank for name, rank in ranks.items()}
    with pytest.raises(AdapterError, match=message):
        stage.open(replace(SPEC, ranks=asked))


def test_a_cut_below_the_workers_first_block_is_refused() -> None:
    stage = Stage(load_worker(FAMILY, lowest_cut=2))
    with pytest.raises(SplitError, match="cut 1 is below 2, the first block of this worker"):
        stage.open(replace(SPEC, cut=1))
    stage.open(replace(SPEC, cut=3))
