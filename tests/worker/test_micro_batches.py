"""A step in micro-batches is the step undivided, whoever has the labels; or it is no step."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hsplit_flower.errors import CodecError, NonFiniteError, WorkerRejectedError
from hsplit_flower.metrics import count_label_tokens
from hsplit_flower.settings import SessionSpec
from hsplit_flower.wire.messages import Backward, Forward, Gradient, LastHidden, Loss
from hsplit_flower.worker import Stage
from hsplit_flower.worker.session import Session
from tests.tolerances import assert_same
from tests.worker.steps import (
    AT_CLIENT,
    BATCH,
    FAMILY,
    SPEC,
    backward,
    factors_of,
    forward,
    is_equal,
)
from tests.workers import load_worker

TOKENS = count_label_tokens(BATCH["labels"])
SPLITS = [(3,), (1, 2), (2, 1), (1, 1, 1)]


@pytest.fixture
def stage() -> Stage:
    return Stage(load_worker(FAMILY))


def _rows(sizes: tuple[int, ...]) -> list[slice]:
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _parts(sizes: tuple[int, ...], step: int = 1, **changes: object) -> list[Forward]:
    whole = forward(step, seed=step, **changes)
    return [
        replace(
            whole,
            hidden=whole.hidden[rows],
            labels=None if whole.labels is None else whole.labels[rows],
            attention_mask=whole.attention_mask[rows],
            micro_batch=number,
            num_micro_batches=len(sizes),
            total_tokens=TOKENS,
        )
        for number, rows in enumerate(_rows(sizes))
    ]


def _gradients(sizes: tuple[int, ...], step: int = 1) -> list[Backward]:
    whole = backward(step, seed=50 + step)
    return [
        replace(
            whole,
            gradient=whole.gradient[rows],
            micro_batch=number,
            num_micro_batches=len(sizes),
        )
        for number, rows in enumerate(_rows(sizes))
    ]


def _assert_same_factors(got: Session, wanted: Session) -> None:
    for name, factor in factors_of(wanted).items():
        assert_same(factors_of(got)[name], factor, name)


@pytest.mark.parametrize("sizes", SPLITS)
def test_with_labels_here_they_add_up_to_the_undivided_step(
    stage: Stage, sizes: tuple[int, ...]
) -> None:
    whole, divided = stage.open(SPEC), stage.open(SPEC)
    for step in (1, 2, 3):
        wanted = stage.handle(whole, forward(step, seed=step))
        assert isinstance(wanted, Loss)
        replies = []
        for part in _parts(sizes, step):
            assert divided.num_steps == step - 1
            reply = stage.handle(divided, part)
            assert isinstance(reply, Loss)
            assert (reply.step, reply.micro_batch) == (step, part.micro_batch)
            replies.append(reply)
        assert divided.num_steps == step
        assert_same(torch.cat([r.gradient for r in replies]), wanted.gradient, f"step {step}")
        assert sum(r.loss_sum for r in replies) == pytest.approx(wanted.loss_sum, rel=1e-5)
        assert sum(r.num_tokens for r in replies) == wanted.num_tokens
        _assert_same_factors(divided, whole)


ORDERS: dict[str, Callable[[list[Forward], list[Backward]], list[Forward | Backward]]] = {
    "all forth, all back": lambda forth, back: [*forth, *back],
    "each forth and back": lambda forth, back: [
        request for pair in zip(forth, back, strict=True) for request in pair
    ],
    "the last back first": lambda forth, back: [*forth, *back[::-1]],
    "two in flight": lambda forth, back: [forth[0], forth[1], back[0], forth[2], back[1], back[2]],
}


@pytest.mark.parametrize("order", ORDERS)
def test_with_labels_at_the_client_they_add_up_in_any_order(stage: Stage, order: str) -> None:
    sizes = (1, 1, 1)
    whole, divided = stage.open(AT_CLIENT), stage.open(AT_CLIENT.replace(in_flight=3))
    for step in (1, 2):
        last = stage.handle(whole, forward(step, seed=step, labels=None))
        gradient = stage.handle(whole, backward(step, seed=50 + step))
        assert isinstance(last, LastHidden)
        assert isinstance(gradient, Gradient)
        forth: dict[int, Tensor] = {}
        back: dict[int, Tensor] = {}
        for request in ORDERS[order](_parts(sizes, step, labels=None), _gradients(sizes, step)):
            assert divided.num_steps == step - 1
            reply = stage.handle(divided, request)
            if isinstance(reply, LastHidden):
                forth[reply.micro_batch] = reply.hidden
            else:
                assert isinstance(reply, Gradient)
                back[reply.micro_batch] = reply.gradient
        assert divided.num_steps == step
        assert_same(torch.cat([forth[i] for i in range(3)]), last.hidden, "last hidden state")
        assert_same(torch.cat([back[i] for i in range(3)]), gradient.gradient, "gradient")
        _assert_same_factors(divided, whole)


def test_each_micro_batch_is_answered_again_and_counted_once(stage: Stage) -> None:
    spec = AT_CLIENT.replace(in_flight=6)
    once, often = stage.open(spec), stage.open(spec)
    sizes = (1, 1, 1)
    for step in (1, 2):
        requests = [*_parts(sizes, step, labels=None), *_gradients(sizes, step)]
        sent: list[Forward | Backward] = []
        for request in requests:
            stage.handle(once, request)
            stage.handle(often, request)
            sent.append(request)
            for earlier in sent:
                again = stage.handle(often, earlier)
                assert (again.step, again.micro_batch) == (step, earlier.micro_batch)
    assert is_equal(factors_of(often), factors_of(once))
    assert often.num_steps == 2


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize(
    "spec", [SPEC, AT_CLIENT.replace(in_flight=3)], ids=["labels here", "labels there"]
)
def test_one_that_is_not_finite_voids_the_whole_step(
    stage: Stage, spec: SessionSpec, bad: int
) -> None:
    session, clean = stage.open(spec), stage.open(spec)
    before, sizes = factors_of(session), (1, 1, 1)
    changes = {} if spec is SPEC else {"labels": None}
    parts, gradients = _parts(sizes, **changes), _gradients(sizes)
    requests: list[Forward | Backward] = list(parts) if spec is SPEC else [*parts, *gradients]
    for request in requests[: len(requests) - 3 + bad]:
        stage.handle(session, request)
    if spec is SPEC:
        # Finite, but not once two of them are added.
        worst: Forward | Backward = replace(parts[bad], hidden=torch.full((1, 9, 16), 3e38))
    else:
        worst = replace(gradients[bad], gradient=torch.full((1, 9, 16), math.nan))
    with pytest.raises(NonFiniteError):
        stage.handle(session, worst)
    assert session.num_steps == 0
    assert session.progress is None
    assert is_equal(factors_of(session), before)
    # The rest of the void step does not begin another one.
    if bad < 2:
        with pytest.raises(WorkerRejectedError, match=r"out of turn|waits for a gradient"):
            stage.handle(session, requests[-1])
    for request in requests:
        stage.handle(session, request)
        stage.handle(clean, request)
    assert session.num_steps == 1
    assert is_equal(factors_of(session), factors_of(clean))


FIRST, SECOND, _ = _parts((1, 1, 1))
REFUSED: dict[str, tuple[Forward, type[Exception], str]] = {
    "the first again": (
        replace(FIRST, step=2),
        WorkerRejectedError,
        "step 2 is out of turn",
    ),
    "one too far": (
        replace(SECOND, micro_batch=2),
        WorkerRejectedError,
        "micro-batch 2 of step 1 is out of turn: 1 of 3 is next",
    ),
    "another number": (replace(SECOND, num_micro_batches=2), CodecError, "must agree on"),
    "another total": (replace(SECOND, total_tokens=TOKENS + 1), CodecError, "must agree on"),
    "no training any more": (replace(SECOND, train=False), CodecError, "must agree on"),
    "too many": (replace(SECOND, num_micro_batches=2000), CodecError, "1 to 1024 are allowed"),
    "none": (replace(SECOND, num_micro_batches=0), CodecError, "1 to 1024 are allowed"),
    "a probe": (replace(SECOND, probe=True), CodecError, "scored on a step's first micro-batch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_that_does_not_belong_is_refused_and_the_step_goes_on(stage: Stage, case: str) -> None:
    request, error, message = REFUSED[case]
    session, clean = stage.open(SPEC), stage.open(SPEC)
    for part in _parts((1, 1, 1)):
        stage.handle(clean, part)
        stage.handle(session, part)
        if part.micro_batch == 0:
            with pytest.raises(error, match=message):
                stage.handle(session, request)
    assert is_equal(factors_of(session), factors_of(clean))


@pytest.mark.parametrize(
    ("total", "message"), [(0, "must say how many target tokens"), (3, "3 target tokens in")]
)
def test_the_steps_tokens_must_be_told_and_cover_the_part(
    stage: Stage, total: int, message: str
) -> None:
    with pytest.raises(CodecError, match=message):
        stage.handle(stage.open(SPEC), replace(FIRST, total_tokens=total))


@pytest.mark.parametrize("granted", [1, 2])
def test_no_more_graphs_are_held_than_were_granted(stage: Stage, granted: int) -> None:
    """Each waits for its own gradient, with all that its blocks keep."""
    session, clean = (stage.open(AT_CLIENT.replace(in_flight=n)) for n in (granted, 3))
    parts, gradients = _parts((1, 1, 1), labels=None), _gradients((1, 1, 1))
    for part in parts[:granted]:
        stage.handle(session, part)
    with pytest.raises(
        WorkerRejectedError, match=rf"{granted} micro-batches wait .*{granted} were"
    ):
        stage.handle(session, parts[granted])
    for number in range(3):
        stage.handle(session, gradients[number])
        if number + granted < 3:
            stage.handle(session, parts[number + granted])
    for request in (*parts, *gradients):
        stage.handle(clean, request)
    assert session.num_steps == 1
    assert is_equal(factors_of(session), factors_of(clean))


def test_a_part_without_targets_trains_on_nothing(stage: Stage) -> None:
    session, whole = stage.open(SPEC), stage.open(SPEC)
    first, second = _parts((2, 1))
    silent = replace(first, labels=torch.full_like(first.labels, -100))
    for part in (silent, second):
        stage.handle(session, replace(part, total_tokens=count_label_tokens(second.labels)))
    stage.handle(whole, replace(second, micro_batch=0, num_micro_batches=1, total_tokens=0))
    _assert_same_factors(session, whole)


def test_a_gradient_of_a_step_of_another_length_is_refused(stage: Stage) -> None:
    session = stage.open(AT_CLIENT)
    stage.handle(session, _parts((1, 2), labels=None)[0])
    with pytest.raises(CodecError, match="3 micro-batches: it began as one of 2"):
        stage.handle(session, _gradients((1, 1, 1))[0])
    assert stage.handle(session, _gradients((1, 2))[0]).micro_batch == 0


def test_evaluation_may_come_in_parts(stage: Stage) -> None:
    whole, divided = stage.open(SPEC), stage.open(SPEC)
    wanted = stage.handle(whole, forward(seed=1, train=False))
    replies = [stage.handle(divided, part) for part in _parts((1, 2), train=False)]
    assert sum(reply.loss_sum for reply in replies) == pytest.approx(wanted.loss_sum, rel=1e-5)
    assert divided.num_steps == whole.num_steps == 1
