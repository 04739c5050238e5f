"""A client's half of a round where things go wrong: what the worker answers, what is computed."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound
from hsplit_flower.errors import AdapterError, NonFiniteError, TransportError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half
from hsplit_flower.transport.streams import InProcessStream
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.messages import (
    Backward,
    Forward,
    Gradient,
    LastHidden,
    Loss,
    Reply,
    Request,
)
from tests.families import fields
from tests.reference.unsplit import trainable_factors
from tests.rounds import architecture, ranks
from tests.workers import in_process, load_client, running_worker

FAMILY = "llama"
SPEC = SessionSpec(client=0, cut=2, ranks=ranks(FAMILY), learning_rate=1e-2)
AT_CLIENT = SPEC.replace(labels=Labels.CLIENT)
BATCH = Batch(**fields("right"))


def _local_round(
    answer: Callable[[Request], Reply], spec: SessionSpec = SPEC
) -> tuple[LocalRound, Half]:
    half = load_client(FAMILY, spec.cut, keeps_labels=spec.labels is Labels.CLIENT)
    stream = InProcessStream(answer, WireType.FLOAT32)
    return LocalRound(half, {}, spec, stream), half


def _loss(request: Request, loss_sum: float = 3.0, gradient: float = 0.1) -> Loss:
    assert isinstance(request, Forward)
    return Loss(
        step=request.step,
        loss_sum=loss_sum,
        num_tokens=2,
        gradient=torch.full_like(request.hidden, gradient),
    )


def test_labels_stay_with_the_client_or_go_to_the_worker() -> None:
    seen: list[Request] = []

    def note(request: Request) -> Reply:
        seen.append(request)
        if isinstance(request, Backward):
            return Gradient(step=request.step, gradient=request.gradient)
        if request.labels is None:
            return LastHidden(step=request.step, hidden=request.hidden)
        return _loss(request)

    _local_round(note)[0].train([BATCH], probe=True)
    _local_round(note, AT_CLIENT)[0].train([BATCH], probe=False)
    sent, kept, back = seen
    assert isinstance(sent, Forward)
    assert isinstance(kept, Forward)
    assert isinstance(back, Backward)
    assert torch.equal(sent.labels, BATCH.labels)
    assert kept.labels is None
    assert (sent.probe, kept.probe) == (True, False)
    assert torch.equal(sent.attention_mask, BATCH.attention_mask)
    assert sent.hidden.requires_grad is kept.hidden.requires_grad is False


def test_steps_count_up_and_only_the_first_is_probed() -> None:
    seen: list[tuple[int, bool]] = []

    def note(request: Request) -> Reply:
        assert isinstance(request, Forward)
        seen.append((request.step, request.probe))
        return _loss(request)

    local_round, _ = _local_round(note)
    given = {name: field for name, field in vars(BATCH).items() if field is not None}
    smaller = Batch(**{name: field[:2, :7] for name, field in given.items()})
    outcome = local_round.train([BATCH, smaller, BATCH], probe=True)
    assert seen == [(1, True), (2, False), (3, False)]
    assert (outcome.num_steps, outcome.num_examples) == (3, 3 + 2 + 3)
    assert outcome.num_batch_tokens == 3 * 9 + 2 * 7 + 3 * 9, "padding is computed, too"
    assert (outcome.loss.loss_sum, outcome.loss.num_tokens) == (9.0, 6)
    assert outcome.seconds > 0
    below = {w.name for w in architecture(FAMILY).weights if w.block < SPEC.cut}
    assert outcome.importance.keys() == below


@pytest.mark.parametrize("is_training", [True, False])
def test_dropout_is_on_while_training_only(is_training: bool) -> None:
    seen: list[bool] = []

    def note(request: Request) -> Reply:
        seen.append(half.model.training)
        return _loss(request)

    local_round, half = _local_round(note)
    if is_training:
        local_round.train([BATCH] * 2, probe=False)
    else:
        local_round.evaluate([BATCH] * 2)
    assert seen == [is_training] * 2


@pytest.mark.parametrize("loss_sum", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_round(loss_sum: float) -> None:
    local_round, half = _local_round(lambda request: _loss(request, loss_sum))
    before = {n: p.detach().clone() for n, p in trainable_factors(half.model).items()}
    with pytest.raises(NonFiniteError, match=r"loss is (nan|inf).*learning rate"):
        local_round.train([BATCH], probe=False)
    after = trainable_factors(half.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_gradient_that_is_not_finite_ends_the_round() -> None:
    local_round, half = _local_round(lambda request: _loss(request, gradient=math.nan))
    before = {n: p.detach().clone() for n, p in trainable_factors(half.model).items()}
    with pytest.raises(NonFiniteError, match="gradient on the client"):
        local_round.train([BATCH], probe=False)
    after = trainable_factors(half.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_importance_that_is_not_finite_ends_the_round() -> None:
    """Nothing is trained below the cut, so that only the probe sees the gradient."""
    spec = SPEC.replace(ranks=dict.fromkeys(SPEC.ranks, 0))
    local_round, _ = _local_round(lambda request: _loss(request, gradient=math.inf), spec)
    with pytest.raises(NonFiniteError, match="importance of 'model"):
        local_round.train([BATCH], probe=True)


def test_a_last_hidden_state_that_is_not_finite_ends_the_round() -> None:
    def answer(request: Request) -> Reply:
        assert isinstance(request, Forward), (
            "no gradient may be sent after a loss that is not finite"
        )
        return LastHidden(step=1, hidden=torch.full_like(request.hidden, math.nan))

    local_round, _ = _local_round(answer, AT_CLIENT)
    with pytest.raises(NonFiniteError, match="loss is nan"):
        local_round.train([BATCH], probe=False)


def _out_of_turn(request: Request) -> Reply:
    assert isinstance(request, Forward)
    return LastHidden(step=1, hidden=request.hidden)


def _without_gradient(request: Request) -> Reply:
    return replace(_loss(request), gradient=None)


def _of_another_shape(request: Request) -> Reply:
    return replace(_loss(request), gradient=torch.ones(1, 2, 3))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_out_of_turn, "LastHidden, out of turn"),
        (_without_gradient, "no gradient of the hidden state's shape"),
        (_of_another_shape, r"reply has the shape \[1, 2, 3\]"),
    ],
)
def test_a_wrong_reply_ends_the_round(answer: Callable[[Request], Reply], message: str) -> None:
    with pytest.raises(TransportError, match=message):
        _local_round(answer)[0].train([BATCH], probe=False)


def test_a_wrong_reply_ends_the_round_where_the_labels_stay() -> None:
    with pytest.raises(TransportError, match="Loss, out of turn"):
        _local_round(_loss, AT_CLIENT)[0].train([BATCH], probe=False)

    def answer(request: Request) -> Reply:
        return LastHidden(step=1, hidden=torch.ones(3, 9, 16))

    with pytest.raises(TransportError, match="LastHidden, out of turn: Gradient is wanted"):
        _local_round(answer, AT_CLIENT)[0].train([BATCH], probe=False)


def test_an_update_for_another_model_is_refused() -> None:
    name = architecture(FAMILY).weights[0].name
    half = load_client(FAMILY, SPEC.cut)
    stream = InProcessStream(_loss, WireType.FLOAT32)
    with pytest.raises(AdapterError, match=rf"{name}.*\[3, 4\].*\[16, 16\]"):
        LocalRound(half, {name: LowRank.zeros(3, 4)}, SPEC, stream)


def test_nothing_to_train_below_the_cut_trains_above_it() -> None:
    """Block 0 has no adapters at all: the hidden state then asks for no gradient."""
    above = {w.name: 2 for w in architecture(FAMILY).weights if w.block >= SPEC.cut}
    spec = SPEC.replace(ranks=above)
    with running_worker(FAMILY) as worker:
        token = worker.worker.open(spec)
        local_round = LocalRound(load_client(FAMILY, spec.cut), {}, spec, in_process(worker, token))
        outcome = local_round.train([BATCH], probe=False)
        assert outcome.updates == {}
        assert worker.worker.collect(token).updates.keys() == above.keys()


@pytest.mark.parametrize("wire_type", [WireType.BFLOAT16, WireType.FLOAT16, WireType.INT8])
@pytest.mark.parametrize("labels", Labels)
@pytest.mark.one_in(2)
def test_a_narrower_wire_changes_little(labels: Labels, wire_type: WireType) -> None:
    losses = {}
    with running_worker(FAMILY) as worker:
        for kind in (WireType.FLOAT32, wire_type):
            spec = SPEC.replace(labels=labels, wire_type=kind)
            token = worker.worker.open(spec)
            half = load_client(FAMILY, spec.cut, keeps_labels=labels is Labels.CLIENT)
            local_round = LocalRound(half, {}, spec, in_process(worker, token, kind))
            losses[kind] = local_round.train([BATCH] * 3, probe=False).loss.mean
    assert losses[wire_type] != losses[WireType.FLOAT32]
    assert losses[wire_type] == pytest.approx(losses[WireType.FLOAT32], rel=2e-2)
