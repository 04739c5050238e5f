"""A session's step is the same whoever else is in the pass: every family, cuts, ranks and lengths.

What one session sends cannot reach another: not what is refused, and not what turns out to be no
finite number on the way.
"""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hsplit_flower.adapters import batched as batched_room
from hsplit_flower.errors import NonFiniteError, WorkerRejectedError
from hsplit_flower.splitting import Half
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import LastHidden, Loss
from hsplit_flower.worker import batched_pass as pass_room
from hsplit_flower.worker import stage as stage_room
from tests.families import FAMILIES, NUM_BLOCKS
from tests.tolerances import assert_same
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


@pytest.mark.parametrize("clients", [MIXED, ALIKE], ids=["mixed", "alike"])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_trains_as_if_alone(name: str, clients: list[Client]) -> None:
    trace: Trace = []
    alone = train_all(new_stage(name), name, clients, together=False, trace=trace)
    together = train_all(new_stage(name), name, clients, together=True, trace=trace)
    for got, wanted in zip(together, alone, strict=True):
        assert_same_training(got, wanted)
        wanted_factors = factors_of(wanted.session)
        for factor, value in factors_of(got.session).items():
            assert (value - wanted_factors[factor]).abs().max() < 1e-3, "of steps of 1e-2"


@pytest.mark.parametrize("name", FAMILIES)
def test_each_is_evaluated_as_if_alone(name: str) -> None:
    stage = new_stage(name)
    alone, together = (open_all(stage, name, MIXED) for _ in range(2))
    requests = [
        replace(client.request(1, number), train=False) for number, client in enumerate(MIXED)
    ]
    before = [factors_of(trained.session) for trained in together]
    replies = stage.handle_together(
        [(trained.session, request) for trained, request in zip(together, requests, strict=True)]
    )
    for trained, request, got in zip(alone, requests, replies, strict=True):
        wanted = stage.handle(trained.session, request)
        assert isinstance(got, Loss)
        assert isinstance(wanted, Loss)
        assert got.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-5)
        assert got.gradient is None
    for trained, factors in zip(together, before, strict=True):
        assert is_equal(factors_of(trained.session), factors)


def _count_blocks(half: Half) -> list[tuple[int, int]]:
    """Notes for every run of a block its index and how many rows it had."""
    runs: list[tuple[int, int]] = []
    for index in range(half.parts.span.start, half.parts.span.stop):
        half.block(index).register_forward_pre_hook(
            lambda module, args, index=index: runs.append((index, len(args[0])))
        )
    return runs


def test_the_base_is_run_once_and_each_session_joins_at_its_cut() -> None:
    stage = new_stage("llama")
    opened = open_all(stage, "llama", MIXED)
    runs = _count_blocks(stage.half)
    stage.handle_together(
        [(t.session, c.request(1, i)) for i, (t, c) in enumerate(zip(opened, MIXED, strict=True))]
    )
    regular = [client for client in MIXED if client.padding != "left"]
    rows = {cut: sum(c.rows for c in regular if c.cut <= cut) for cut in range(1, NUM_BLOCKS)}
    assert runs == [(1, rows[1]), (2, rows[2]), (2, 3)]


def test_rows_padded_on_the_left_share_a_pass_with_those_of_their_length() -> None:
    """What padding on the left makes of nothing to attend to depends on the length of the row."""
    clients = [replace(ALIKE[0], padding="left")] * 2 + [replace(ALIKE[0], padding="left", seq=7)]
    stage = new_stage("llama")
    opened = open_all(stage, "llama", clients)
    runs = _count_blocks(stage.half)
    stage.handle_together(
        [(t.session, c.request(1, i)) for i, (t, c) in enumerate(zip(opened, clients, strict=True))]
    )
    assert runs == [(2, 6), (2, 3)]


def test_no_gradient_of_the_base_and_no_graph_is_left() -> None:
    stage = new_stage("llama")
    kept: list[Tensor] = []
    for index in range(1, NUM_BLOCKS):
        stage.half.block(index).register_forward_hook(
            lambda module, args, output: kept.append(
                output[0] if isinstance(output, tuple) else output
            )
        )
    trained = train_all(stage, "llama", MIXED, together=True)
    assert all(parameter.grad is None for parameter in stage.half.model.parameters())
    assert not any(parameter.requires_grad for parameter in stage.half.model.parameters())
    for one in trained:
        assert all(factor.grad is None for factor in one.session.factors)
        assert all(reply.gradient.grad_fn is None for reply in one.replies)
    # What the graph saved is freed: going back a second time is an error.
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        kept[-1].sum().backward()


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


def test_all_kinds_of_requests_are_answered_in_their_places() -> None:
    """Those that cannot join run by themselves, in the same call."""
    stage, reference = new_stage("llama"), new_stage("llama")
    client = ALIKE[0]
    spec = client.spec("llama", 0)
    specs = [spec, replace(spec, labels=Labels.CLIENT), replace(spec, train=False), spec, spec]
    requests = [
        client.request(1, 0),
        replace(client.request(1, 1), labels=None),
        replace(client.request(1, 2), train=False),
        replace(client.request(1, 3), probe=True),
        client.request(1, 4),
    ]
    sessions, others = ([s.open(spec) for spec in specs] for s in (stage, reference))
    replies = stage.handle_together(list(zip(sessions, requests, strict=True)))
    for got, session, request in zip(replies, others, requests, strict=True):
        wanted = reference.handle(session, request)
        assert type(got) is type(wanted)
        if isinstance(wanted, LastHidden):
            assert_same(got.hidden, wanted.hidden)
        else:
            assert got.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-5)
    assert [bool(session.importance) for session in sessions] == [False, False, False, True, False]


def test_checkpointed_blocks_give_the_same_gradients() -> None:
    trace: Trace = []
    plain = train_all(new_stage("llama"), "llama", MIXED, together=True, trace=trace)
    stage = new_stage("llama")
    stage.half.checkpointing = True
    checkpointed = train_all(stage, "llama", MIXED, together=True, trace=trace)
    for got, wanted in zip(checkpointed, plain, strict=True):
        assert_same_training(got, wanted)


def test_micro_batches_of_several_sessions_share_passes() -> None:
    stage = new_stage("llama")
    whole = open_all(stage, "llama", ALIKE)
    divided = open_all(stage, "llama", ALIKE)
    requests = [client.request(1, number) for number, client in enumerate(ALIKE)]
    stage.handle_together([(t.session, r) for t, r in zip(whole, requests, strict=True)])
    tokens = int((requests[0].labels[:, 1:] != -100).sum())
    for number in range(3):
        stage.handle_together(
            [
                (
                    trained.session,
                    replace(
                        request,
                        hidden=request.hidden[number : number + 1],
                        labels=request.labels[number : number + 1],
                        micro_batch=number,
                        num_micro_batches=3,
                        total_tokens=tokens,
                    ),
                )
                for trained, request in zip(divided, requests, strict=True)
            ]
        )
    for got, wanted in zip(divided, whole, strict=True):
        assert got.session.num_steps == 1
        for name, gradient in wanted.gradients[0].items():
            assert_same(got.gradients[0][name], gradient, name)


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
