"""Sessions that share one adapter: as if one model were stepped by their batches in turn."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from hsplit_flower.adapters import LowRank, starting_points
from hsplit_flower.errors import AdapterError, CodecError, NonFiniteError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import Labels, Start
from hsplit_flower.wire.messages import Forward, Loss
from hsplit_flower.worker import Stage
from hsplit_flower.worker.batched_pass import group_of
from hsplit_flower.worker.session import Session
from tests.families import fields
from tests.reference.unsplit import Step, base_model, train, with_peft
from tests.rounds import architecture, global_update
from tests.tolerances import assert_same
from tests.worker.steps import factors_of, forward, is_equal
from tests.workers import load_client, load_worker, split_worker

FAMILY, CUT, RANK, STEPS = "llama", 2, 3, 3
ABOVE = [weight for weight in architecture(FAMILY).weights if weight.block >= CUT]
UPDATE: dict[str, LowRank] = {w.name: global_update(FAMILY)[w.name] for w in ABOVE}
SPEC = SessionSpec(
    client=0,
    cut=CUT,
    ranks={weight.name: RANK for weight in ABOVE},
    learning_rate=4e-3,
    weight_decay=0.01,
    lora_alpha=4.0,
    seed=5,
    shares_adapters=True,
)


@dataclass
class Client:
    """A session, and the batches of whoever talks to it."""

    session: Session
    batches: list[dict[str, Tensor]]
    losses: list[Loss]

    def request(self, step: int) -> Forward:
        batch = self.batches[step - 1]
        hidden = load_client(FAMILY, CUT).embed(batch["input_ids"], batch["attention_mask"])
        return forward(
            step,
            hidden=hidden.detach(),
            labels=batch["labels"],
            attention_mask=batch["attention_mask"],
        )


def _batches(client: int) -> list[dict[str, Tensor]]:
    kinds = ("right", "unpadded", "left")
    return [fields(kinds[step % 3], 10 * client + step) for step in range(STEPS)]


def _opened(stage: Stage, spec: SessionSpec) -> list[Client]:
    return [Client(stage.open(spec.replace(client=n)), _batches(n), []) for n in range(2)]


def _whole_model(spec: SessionSpec) -> list[Step]:
    """One model, PEFT's adapters and torch's optimizer, stepped by both's batches in turn."""
    points = starting_points(
        ABOVE, UPDATE, spec.ranks, start=spec.start, scaling=spec.scaling, seed=spec.seed
    )
    merged = {name: p.merge.dense() for name, p in points.items() if p.merge is not None}
    model = with_peft(
        base_model(FAMILY, merged),
        {name: (p.trainable_b, p.trainable_a) for name, p in points.items()},
        spec.scaling,
        {name: (p.frozen.b, p.frozen.a) for name, p in points.items()},
    )
    both = zip(_batches(0), _batches(1), strict=True)
    in_turn = [batch for pair in both for batch in pair]
    return train(model, in_turn, learning_rate=spec.learning_rate, weight_decay=spec.weight_decay)


def _stage() -> Stage:
    stage = Stage(load_worker(FAMILY))
    stage.load_update(UPDATE)
    return stage


def _flat(factors: dict[str, Tensor]) -> Tensor:
    return torch.cat([factors[name].flatten() for name in sorted(factors)])


@pytest.mark.parametrize("start", Start)
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "at once"])
@pytest.mark.one_in(2)
def test_steps_in_turn_are_those_of_one_model(start: Start, together: bool) -> None:
    spec = SPEC.replace(start=start)
    stage = _stage()
    clients = _opened(stage, spec)
    for step in range(1, STEPS + 1):
        asked = [(client.session, client.request(step)) for client in clients]
        answers = (
            stage.handle_together(asked) if together else [stage.handle(*one) for one in asked]
        )
        for client, answer in zip(clients, answers, strict=True):
            assert isinstance(answer, Loss)
            client.losses.append(answer)
    wanted = _whole_model(spec)
    pairs = zip(*(client.losses for client in clients), strict=True)
    got = [reply.loss_sum / reply.num_tokens for pair in pairs for reply in pair]
    assert got == pytest.approx([step.loss for step in wanted], rel=1e-5)
    for client in clients:
        assert client.session.num_steps == STEPS
        assert_same(_flat(factors_of(client.session)), _flat(wanted[-1].factors), "factors")


def test_all_bring_home_the_same() -> None:
    stage = _stage()
    one, other = _opened(stage, SPEC)
    stage.handle(one.session, one.request(1))
    results = [client.session.result() for client in (one, other)]
    assert [result.num_steps for result in results] == [1, 0]
    for name, update in results[0].updates.items():
        assert torch.equal(update.b, results[1].updates[name].b)
        assert torch.equal(update.a, results[1].updates[name].a)


def test_a_session_that_shares_nothing_is_untouched() -> None:
    stage = _stage()
    alone = stage.open(SPEC.replace(shares_adapters=False, client=7))
    before = factors_of(alone)
    one, _ = _opened(stage, SPEC)
    stage.handle(one.session, one.request(1))
    assert is_equal(factors_of(alone), before)
    assert not is_equal(factors_of(one.session), before)


def test_a_step_that_is_not_finite_moves_nobody() -> None:
    stage = _stage()
    one, other = _opened(stage, SPEC)
    before = factors_of(one.session)
    huge = one.request(1)
    huge = forward(1, hidden=torch.full_like(huge.hidden, 3e38), labels=huge.labels)
    with pytest.raises(NonFiniteError):
        stage.handle(one.session, huge)
    assert is_equal(factors_of(other.session), before)
    for client in (other, one):
        assert isinstance(stage.handle(client.session, client.request(1)), Loss)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 6},
        {"learning_rate": 1.0},
        {"ranks": {}},
        {"start": Start.RESTART},
        {"cut": 1},
        {"weight_decay": 0.5, "lora_alpha": 1.0},
        {"labels": Labels.CLIENT},
    ],
)
def test_sessions_that_are_not_alike_are_refused_by_what_differs(
    changes: dict[str, object],
) -> None:
    stage = _stage()
    stage.open(SPEC)
    with pytest.raises(AdapterError, match="that share an adapter must be alike") as caught:
        stage.open(SPEC.replace(client=1, **changes))
    said = str(caught.value).rpartition("differ in ")[2]
    assert set(said.split(", ")) == changes.keys()
    alike = stage.open(SPEC.replace(client=2, round_timeout_seconds=7.0))
    assert alike.spec.client == 2


def test_labels_that_stay_on_the_client_are_refused() -> None:
    with pytest.raises(AdapterError, match="labels on the server are wanted"):
        _stage().open(SPEC.replace(labels=Labels.CLIENT))


def test_several_micro_batches_are_refused_and_nothing_is_left_of_them() -> None:
    stage = _stage()
    one, _ = _opened(stage, SPEC)
    request = one.request(1)
    half = forward(
        1,
        hidden=request.hidden,
        labels=request.labels,
        attention_mask=request.attention_mask,
        num_micro_batches=2,
        total_tokens=200,
    )
    with pytest.raises(CodecError, match=r"several micro-batches.*other sessions step too: whole"):
        stage.handle(one.session, half)
    assert isinstance(stage.handle(one.session, request), Loss)


def test_they_run_with_nobody_in_one_pass() -> None:
    assert group_of(forward(), SPEC) is None
    assert group_of(forward(), SPEC.replace(shares_adapters=False)) is not None


def test_a_new_update_begins_a_fresh_one() -> None:
    stage = _stage()
    one, _ = _opened(stage, SPEC)
    fresh = factors_of(one.session)
    stage.handle(one.session, one.request(1))
    late = stage.open(SPEC.replace(client=9))
    assert is_equal(factors_of(late), factors_of(one.session)), "the round goes on"
    stage.load_update(UPDATE)
    begun = stage.open(SPEC.replace(client=9))
    assert is_equal(factors_of(begun), fresh)
    assert begun.optimizer is not one.session.optimizer
    stage.load_update(UPDATE)
    assert stage.open(SPEC.replace(seed=77)).spec.seed == 77, "it may be unlike the one before"


def test_one_pair_of_factors_is_counted_once() -> None:
    """What many sessions hold together is what one of them holds."""
    worker = split_worker(load_worker(FAMILY))
    try:
        worker.open(SPEC)
        alone = worker._sessions.held_bytes()
        for client in range(1, 5):
            worker.open(SPEC.replace(client=client))
        assert worker._sessions.held_bytes() == alone
    finally:
        worker.stop()
