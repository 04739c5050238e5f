"""One step of one session: what is refused, what is applied, and that sessions do not meet."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hsplit_flower.adapters import LowRank
from hsplit_flower.errors import (
    AdapterError,
    CodecError,
    HSplitError,
    NonFiniteError,
    SplitError,
    WorkerRejectedError,
)
from hsplit_flower.splitting.linear import linear_at, matrix_of
from hsplit_flower.transport.messages import Backward, Forward, Gradient, LastHidden, Loss, Reply
from hsplit_flower.types import Labels, SessionSpec, Start
from hsplit_flower.worker import Stage
from hsplit_flower.worker import stage as stage_room
from hsplit_flower.worker.session import Session
from tests.families import IGNORED, POSITIONS, VOCABULARY, fields
from tests.reference.unsplit import base_model
from tests.rounds import architecture, global_update, ranks
from tests.tolerances import assert_same
from tests.workers import load_client, load_worker

FAMILY = "llama"
SPEC = SessionSpec(client=0, cut=2, ranks=ranks(FAMILY), learning_rate=1e-2, scale=4.0)
AT_CLIENT = replace(SPEC, labels=Labels.CLIENT)
BATCH = fields("right")


@pytest.fixture
def stage() -> Stage:
    return Stage(load_worker(FAMILY))


def _hidden(seed: int = 0, seq: int = 9, width: int = 16) -> Tensor:
    return torch.randn(3, seq, width, generator=torch.Generator().manual_seed(seed))


def _forward(step: int = 1, seed: int = 0, **changes: object) -> Forward:
    whole = Forward(
        step=step,
        hidden=_hidden(seed),
        labels=BATCH["labels"],
        attention_mask=BATCH["attention_mask"],
    )
    return replace(whole, **changes)


def _without_labels(step: int = 1, seed: int = 0) -> Forward:
    return _forward(step, seed, labels=None)


def _backward(step: int = 1, seed: int = 5) -> Backward:
    return Backward(step=step, gradient=0.1 * _hidden(seed))


def _factors(session: Session) -> dict[str, Tensor]:
    return {
        f"{name}.{kind}": factor.detach().clone()
        for name, trainable in session.trainables.items()
        for kind, factor in (("b", trainable.b), ("a", trainable.a))
    }


def _equal(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return got.keys() == wanted.keys() and all(torch.equal(got[key], wanted[key]) for key in wanted)


def _labels(row: int, column: int, value: int) -> Tensor:
    labels = BATCH["labels"].clone()
    labels[row, column] = value
    return labels


REFUSED: dict[str, tuple[SessionSpec, Forward | Backward, type[HSplitError], str]] = {
    "a step too early": (SPEC, _forward(2), WorkerRejectedError, "step 2 .* step 1 is next"),
    "step zero": (SPEC, _forward(0), WorkerRejectedError, "step 0 is out of turn"),
    "another width": (SPEC, _forward(hidden=_hidden(width=8)), CodecError, "width 8: 16 is wanted"),
    "too many positions": (
        SPEC,
        _forward(hidden=_hidden(seq=POSITIONS + 1)),
        CodecError,
        f"sequence of {POSITIONS + 1}: the model has {POSITIONS} positions",
    ),
    "no labels": (SPEC, _without_labels(), CodecError, "absent, .* with labels on the server"),
    "labels": (AT_CLIENT, _forward(), CodecError, "sent, .* with labels on the client"),
    "a label too large": (
        SPEC,
        _forward(labels=_labels(1, 4, VOCABULARY)),
        CodecError,
        rf"labels must be {IGNORED} or in \[0, {VOCABULARY}\)",
    ),
    "a label below zero": (SPEC, _forward(labels=_labels(1, 4, -7)), CodecError, "labels must be"),
    "no targets": (
        SPEC,
        _forward(labels=torch.full((3, 9), IGNORED)),
        CodecError,
        "without a single target token",
    ),
    "training in evaluation": (
        replace(SPEC, train=False),
        _forward(),
        CodecError,
        "training step in a session that was opened for evaluation",
    ),
    "NaN": (
        SPEC,
        _forward(hidden=_hidden().index_fill(0, torch.tensor(1), math.nan)),
        NonFiniteError,
        "hidden state is not finite",
    ),
    "infinity": (
        SPEC,
        _forward(hidden=_hidden().index_fill(0, torch.tensor(1), math.inf)),
        NonFiniteError,
        "hidden state is not finite",
    ),
    "a gradient for nothing": (
        AT_CLIENT,
        _backward(),
        WorkerRejectedError,
        "no forward pass of step 1 waits for a gradient",
    ),
    "a gradient where labels are here": (
        SPEC,
        _backward(),
        WorkerRejectedError,
        "no forward pass of step 1 waits",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(stage: Stage, case: str) -> None:
    spec, request, error, message = REFUSED[case]
    session = stage.open(spec)
    before = _factors(session)
    with pytest.raises(error, match=message):
        stage.handle(session, request)
    assert session.num_steps == 0
    assert _equal(_factors(session), before)
    assert all(t.a.grad is None and t.b.grad is None for t in session.trainables.values())
    good = replace(_forward(), train=spec.train)
    if spec.labels is Labels.CLIENT:
        good = replace(good, labels=None)
    assert stage.handle(session, good).step == 1


def test_a_step_too_large_for_the_device_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_room, "MAX_TOKENS", 26)
    with pytest.raises(CodecError, match="27 tokens in one step: at most 26"):
        stage.handle(stage.open(SPEC), _forward())


def test_a_label_on_the_first_token_is_not_looked_at(stage: Stage) -> None:
    """Nothing predicts it."""
    plain = stage.handle(stage.open(SPEC), _forward())
    odd = stage.handle(stage.open(SPEC), _forward(labels=_labels(0, 0, -7)))
    assert odd.loss_sum == plain.loss_sum


def _poisoned_loss(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Forward:
    compute = stage.half.logits
    monkeypatch.setattr(stage.half, "logits", lambda *a, **k: compute(*a, **k) * math.nan)
    return _forward()


def _poisoned_gradient(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Forward:
    """Finite numbers forth, an infinite slope back: the square root at zero."""
    compute = stage.half.logits

    def logits(*args: Tensor, **kwargs: int) -> Tensor:
        plain = compute(*args, **kwargs)
        return plain + (plain - plain.detach()).square().sum().sqrt()

    monkeypatch.setattr(stage.half, "logits", logits)
    return _forward()


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
    before = _factors(session)
    with monkeypatch.context() as poisoned:
        request = replace(poison(poisoned, stage), probe=probe)
        wanted = "importance of" if probe and poison is _poisoned_gradient else message
        with pytest.raises(NonFiniteError, match=wanted):
            stage.handle(session, request)
    assert session.num_steps == 0
    assert session.importance == {}
    assert _equal(_factors(session), before)
    # Nothing of it is left in the next step either.
    got, clean = stage.handle(session, _forward()), stage.handle(other, _forward())
    assert torch.equal(got.gradient, clean.gradient)
    assert _equal(_factors(session), _factors(other))


def test_a_gradient_from_the_client_that_is_not_finite_is_not_applied(stage: Stage) -> None:
    session = stage.open(AT_CLIENT)
    before = _factors(session)
    stage.handle(session, _without_labels())
    with pytest.raises(NonFiniteError, match="gradient above the cut is not finite"):
        stage.handle(session, replace(_backward(), gradient=torch.full((3, 9, 16), math.nan)))
    assert session.num_steps == 0
    assert _equal(_factors(session), before)


@pytest.mark.parametrize("shape", [(3, 9, 8), (3, 8, 16), (1, 9, 16)])
def test_a_gradient_of_another_shape_is_refused(stage: Stage, shape: tuple[int, ...]) -> None:
    session = stage.open(AT_CLIENT)
    stage.handle(session, _without_labels())
    with pytest.raises(CodecError, match=r"\[3, 9, 16\] is wanted, that of the last hidden state"):
        stage.handle(session, Backward(step=1, gradient=torch.ones(shape)))
    assert session.num_steps == 0


def test_repeated_requests_are_answered_from_memory(stage: Stage) -> None:
    once, often = stage.open(AT_CLIENT), stage.open(AT_CLIENT)
    for step in (1, 2):
        for request in (_without_labels(step, seed=step), _backward(step, seed=step)):
            wanted = stage.handle(once, request)
            replies = [stage.handle(often, request) for _ in range(3)]
            assert all(reply is replies[0] for reply in replies)
            assert type(replies[0]) is type(wanted)
        # The whole step once more, as by a client whose stream broke at its end.
        assert isinstance(stage.handle(often, _without_labels(step, seed=step)), LastHidden)
        assert isinstance(stage.handle(often, _backward(step, seed=step)), Gradient)
    assert once.num_steps == often.num_steps == 2
    assert _equal(_factors(once), _factors(often))


def test_a_step_before_the_last_is_out_of_turn(stage: Stage) -> None:
    session = stage.open(SPEC)
    for step in (1, 2, 3):
        stage.handle(session, _forward(step))
    with pytest.raises(WorkerRejectedError, match="step 2 is out of turn: step 4 is next"):
        stage.handle(session, _forward(2))


def test_evaluation_trains_nothing_and_scores_nothing(stage: Stage) -> None:
    session = stage.open(replace(SPEC, train=False))
    before = _factors(session)
    for step in (1, 2):
        reply = stage.handle(session, _forward(step, train=False, probe=True))
        assert isinstance(reply, Loss)
        assert reply.gradient is None
    assert _equal(_factors(session), before)
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
        stage.handle(session, _forward(step, train=train))
    assert seen == [True, False, True]


def test_evaluation_may_have_batches_without_targets(stage: Stage) -> None:
    session = stage.open(replace(SPEC, train=False))
    nothing = torch.full((3, 9), IGNORED)
    reply = stage.handle(session, _forward(labels=nothing, train=False))
    assert (reply.loss_sum, reply.num_tokens) == (0.0, 0)


def test_a_training_session_may_evaluate_between_its_steps(stage: Stage) -> None:
    plain, mixed = stage.open(SPEC), stage.open(SPEC)
    stage.handle(plain, _forward(1))
    stage.handle(plain, _forward(2, seed=2))
    stage.handle(mixed, _forward(1))
    stage.handle(mixed, _forward(2, seed=9, train=False))
    stage.handle(mixed, _forward(3, seed=2))
    assert _equal(_factors(mixed), _factors(plain))


SPECS = [
    SPEC,
    replace(AT_CLIENT, client=1, cut=1, seed=1, scale=2.0),
    replace(
        SPEC,
        client=2,
        cut=3,
        ranks={w.name: 3 for w in architecture(FAMILY).weights},
        start=Start.RESTART,
    ),
    replace(AT_CLIENT, client=3, cut=2, ranks={}, weight_decay=0.1),
    replace(SPEC, client=4, cut=1, ranks={w.name: 1 for w in architecture(FAMILY).weights}),
]


def _requests(spec: SessionSpec) -> list[Forward | Backward]:
    requests: list[Forward | Backward] = []
    for step in (1, 2, 3):
        seed = 100 * spec.client + step
        if spec.labels is Labels.CLIENT:
            requests += [_without_labels(step, seed), _backward(step, seed + 50)]
        else:
            requests.append(_forward(step, seed))
    requests[0] = replace(requests[0], probe=True)
    return requests


def _tensors(reply: Reply) -> list[Tensor]:
    if isinstance(reply, LastHidden):
        return [reply.hidden]
    loss = [torch.tensor(reply.loss_sum)] if isinstance(reply, Loss) else []
    return [reply.gradient, *loss]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sessions_do_not_affect_each_other(name: str) -> None:
    """Five of them, of other cuts, ranks, starts and label modes, take turns; each alone, the same.

    Those that keep their labels have a forward pass in flight while others step.
    """
    every = ranks(name)
    specs = [
        replace(
            spec, ranks=every if spec.ranks is SPEC.ranks else dict.fromkeys(every, spec.client % 4)
        )
        for spec in SPECS
    ]
    alone = []
    for spec in specs:
        stage = Stage(load_worker(name))
        stage.load_update(global_update(name))
        session = stage.open(spec)
        replies = [stage.handle(session, request) for request in _requests(spec)]
        alone.append((replies, _factors(session), session.importance))
    stage = Stage(load_worker(name))
    stage.load_update(global_update(name))
    sessions = [stage.open(spec) for spec in specs]
    waiting = [_requests(spec) for spec in specs]
    together: list[list[Reply]] = [[] for _ in specs]
    while any(waiting):
        for index, requests in enumerate(waiting):
            if requests:
                together[index].append(stage.handle(sessions[index], requests.pop(0)))
    for session, got, (replies, factors, importance) in zip(sessions, together, alone, strict=True):
        assert session.importance == importance
        assert _equal(_factors(session), factors)
        for a, b in zip(got, replies, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(_tensors(a), _tensors(b), strict=True))


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


def test_a_cut_below_the_workers_first_block_is_refused() -> None:
    stage = Stage(load_worker(FAMILY, lowest_cut=2))
    with pytest.raises(SplitError, match="cut 1 is below 2, the first block of this worker"):
        stage.open(replace(SPEC, cut=1))
    stage.open(replace(SPEC, cut=3))


def _weights(stage: Stage) -> dict[str, Tensor]:
    return {
        weight.name: matrix_of(linear_at(stage.half.model, weight.name)).clone()
        for weight in stage.half.architecture.weights_in(stage.half.parts.span)
    }


def test_updates_that_are_merged_are_taken_out_again(stage: Stage) -> None:
    pristine = _weights(stage)
    stage.load_update(global_update(FAMILY))
    merged = {
        name for name, matrix in _weights(stage).items() if not torch.equal(matrix, pristine[name])
    }
    updates = {name: global_update(FAMILY)[name] for name in pristine}
    assert merged == {
        n for n, u in updates.items() if u.b.numel() + u.a.numel() > pristine[n].numel()
    }
    assert 0 < len(merged) < len(pristine)
    once = _weights(stage)
    for scale in (10.0, 1e4, 1e-4):
        stage.load_update({n: u.scale(scale) for n, u in global_update(FAMILY).items()})
    stage.load_update(global_update(FAMILY))
    assert _equal(_weights(stage), once)
    stage.load_update({})
    assert _equal(_weights(stage), pristine)


@pytest.mark.parametrize("start", Start)
def test_the_global_update_is_there_in_factors_and_in_weights(stage: Stage, start: Start) -> None:
    """Whatever part of it a session trains, and where the rest is kept, it starts as all of it."""
    ids, mask = BATCH["input_ids"], BATCH["attention_mask"]
    above = {n: u for n, u in global_update(FAMILY).items() if n in _weights(stage)}
    client = load_client(FAMILY, 1)
    hidden = client.embed(ids, mask)
    stage.load_update(above)
    session = stage.open(replace(SPEC, cut=1, start=start))
    reply = stage.handle(session, _forward(hidden=hidden))
    model = base_model(FAMILY, {name: update.dense() for name, update in above.items()})
    with torch.no_grad():
        wanted = model(**BATCH).loss.item()
    assert reply.loss_sum / reply.num_tokens == pytest.approx(wanted, rel=1e-5)


def test_a_narrower_base_keeps_its_weights_and_the_factors_their_precision() -> None:
    stage = Stage(load_worker(FAMILY, dtype=torch.bfloat16))
    pristine = _weights(stage)
    stage.load_update(global_update(FAMILY))
    assert _equal(_weights(stage), pristine)
    session = stage.open(SPEC)
    reply = stage.handle(session, _forward())
    assert reply.gradient.dtype == torch.bfloat16
    assert {factor.dtype for factor in _factors(session).values()} == {torch.float32}
    whole = Stage(load_worker(FAMILY))
    whole.load_update(global_update(FAMILY))
    wanted = whole.handle(whole.open(SPEC), _forward())
    assert reply.loss_sum == pytest.approx(wanted.loss_sum, rel=2e-2)
    assert_same(reply.gradient, wanted.gradient, dtype=torch.bfloat16)


def test_weights_of_the_clients_half_are_left_out_of_an_update() -> None:
    stage = Stage(load_worker(FAMILY, lowest_cut=2))
    stage.load_update(global_update(FAMILY))
    session = stage.open(SPEC)
    assert {name.split(".")[2] for name in session.active.terms} == {"2"}


def test_an_update_that_does_not_fit_leaves_the_one_before(stage: Stage) -> None:
    name = architecture(FAMILY).weights[-1].name
    stage.load_update(global_update(FAMILY))
    before, weights = _factors(stage.open(SPEC)), _weights(stage)
    with pytest.raises(AdapterError, match=r"no weights \['nothing'\]"):
        stage.load_update({"nothing": LowRank.zeros(1, 1)})
    with pytest.raises(AdapterError, match=name):
        stage.load_update({name: LowRank.zeros(3, 3)})
    assert _equal(_factors(stage.open(SPEC)), before)
    assert _equal(_weights(stage), weights)
