"""What one session sends cannot reach another: refused, not finite, or a pass that fails."""

import itertools
from dataclasses import replace

import pytest
import torch

from hsplit_flower.adapters import batched as batched_room
from hsplit_flower.errors import NonFiniteError, WorkerRejectedError
from hsplit_flower.splitting import Half
from hsplit_flower.wire.messages import Loss
from hsplit_flower.worker import batched_pass as pass_room
from hsplit_flower.worker import stage as stage_room
from tests.worker.steps import factors_of, is_equal
from tests.worker.together import (
    ALIKE,
    MIXED,
    STEPS,
    Client,
    Trace,
    assert_same_training,
    load_factors,
    new_stage,
    open_all,
    train_all,
)


def test_what_is_refused_leaves_the_others_pass_as_it_would_have_been() -> None:
    clients = MIXED
    stages = [new_stage("llama") for _ in range(2)]
    opened = [open_all(stage, "llama", clients) for stage in stages]
    for step in STEPS:
        requests = [client.request(step, number) for number, client in enumerate(clients)]
        bad = [
            replace(requests[0], step=7),
            replace(requests[3], micro_batch=1, num_micro_batches=2, total_tokens=99),
        ]
        guests = [stages[0].open(clients[0].spec("llama", 9)) for _ in bad]
        asked = [(t.session, r) for t, r in zip(opened[0], requests, strict=True)]
        disturbed = stages[0].handle_together(
            [(guests[0], bad[0]), *asked, (guests[1], replace(bad[1], step=1))]
        )
        calm = stages[1].handle_together(
            [(t.session, r) for t, r in zip(opened[1], requests, strict=True)]
        )
        assert isinstance(disturbed[0], WorkerRejectedError)
        assert isinstance(disturbed[-1], WorkerRejectedError)
        for got, wanted in zip(disturbed[1:-1], calm, strict=True):
            assert isinstance(got, Loss)
            assert isinstance(wanted, Loss)
            assert got.loss_sum == wanted.loss_sum
            assert torch.equal(got.gradient, wanted.gradient)
    for got, wanted in zip(*opened, strict=True):
        assert is_equal(factors_of(got.session), factors_of(wanted.session))


@pytest.mark.parametrize("clients", [MIXED, ALIKE], ids=["mixed", "alike"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_what_overflows_on_the_way_stays_with_its_own_session(
    name: str, clients: list[Client]
) -> None:
    """Its factors are finite, and large enough that a product of them is not."""
    trace: Trace = []
    wanted = train_all(new_stage(name), name, clients, together=True, trace=trace)
    stage = new_stage(name)
    opened = open_all(stage, name, clients)
    guest_client = replace(clients[1], rank=clients[1].rank or 3)
    guest = stage.open(guest_client.spec(name, 9))
    for factor in guest.factors:
        torch.nn.init.constant_(factor, 1e30)
    before = factors_of(guest)
    for step in STEPS:
        for trained, factors in zip(opened, trace[step - 1], strict=True):
            load_factors(trained.session, factors)
        requests = [client.request(step, number) for number, client in enumerate(clients)]
        *replies, refused = stage.handle_together(
            [
                *((t.session, r) for t, r in zip(opened, requests, strict=True)),
                (guest, guest_client.request(1, 9)),
            ]
        )
        assert isinstance(refused, NonFiniteError)
        for trained, reply in zip(opened, replies, strict=True):
            assert isinstance(reply, Loss), reply
            trained.replies.append(reply)
    assert guest.num_steps == 0
    assert is_equal(factors_of(guest), before)
    assert all(factor.grad is None for factor in guest.factors)
    for got, alone in zip(opened, wanted, strict=True):
        assert_same_training(got, alone)


def test_a_pass_that_fails_is_run_again_by_each_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Say there is memory for each but not for all: only a request that fails alone fails."""
    compute, unlucky = stage_room.run_pass, 2
    stage = new_stage("llama")
    opened = open_all(stage, "llama", ALIKE)

    def run_pass(half: Half, bank: object, parts: list[object]) -> object:
        sessions = [part.session for part in parts]
        if len(parts) > 1 or sessions[0] is opened[unlucky].session:
            raise torch.OutOfMemoryError("all is used")
        return compute(half, bank, parts)

    monkeypatch.setattr(stage_room, "run_pass", run_pass)
    replies = stage.handle_together(
        [(t.session, c.request(1, i)) for i, (t, c) in enumerate(zip(opened, ALIKE, strict=True))]
    )
    assert "4 requests could not run together" in caplog.text
    assert isinstance(replies.pop(unlucky), torch.OutOfMemoryError)
    assert [type(reply) for reply in replies] == [Loss] * 3
    assert [t.session.num_steps for t in opened] == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("room", "function", "calls_before"),
    [(pass_room, "_gradients", 0), (batched_room, "_laid_out_as", 4)],
    ids=["before gradients are handed out", "while they are"],
)
def test_a_pass_that_fails_late_leaves_no_gradient_to_be_counted_twice(
    monkeypatch: pytest.MonkeyPatch, room: object, function: str, calls_before: int
) -> None:
    trace: Trace = []
    alone = train_all(new_stage("llama"), "llama", MIXED, together=False, trace=trace)
    compute, calls = getattr(room, function), itertools.count()

    def fails_once(*args: object) -> object:
        if next(calls) == calls_before:
            raise torch.OutOfMemoryError("all is used")
        return compute(*args)

    monkeypatch.setattr(room, function, fails_once)
    together = train_all(new_stage("llama"), "llama", MIXED, together=True, trace=trace)
    assert next(calls) > calls_before, "it has failed"
    for got, wanted in zip(together, alone, strict=True):
        assert_same_training(got, wanted)
