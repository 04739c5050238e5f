"""A session's step is the same whoever else is in the pass: families, cuts, ranks and lengths."""

from dataclasses import replace

import pytest
from torch import Tensor

from hsplit_flower.splitting import Half
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import LastHidden, Loss
from tests.families import FAMILIES, NUM_BLOCKS
from tests.tolerances import assert_same
from tests.worker.steps import factors_of, is_equal
from tests.worker.together import (
    ALIKE,
    DROPPING,
    MIXED,
    Client,
    Trace,
    assert_same_training,
    new_stage,
    open_all,
    train_all,
)


@pytest.mark.parametrize("clients", [MIXED, ALIKE], ids=["mixed", "alike"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.one_in(3)
def test_each_trains_as_if_alone(name: str, clients: list[Client]) -> None:
    trace: Trace = []
    alone = train_all(new_stage(name), name, clients, together=False, trace=trace)
    together = train_all(new_stage(name), name, clients, together=True, trace=trace)
    for got, wanted in zip(together, alone, strict=True):
        assert_same_training(got, wanted)
        wanted_factors = factors_of(wanted.session)
        for factor, value in factors_of(got.session).items():
            assert (value - wanted_factors[factor]).abs().max() < 1e-3, "of steps of 1e-2"


def test_each_drops_and_smooths_as_if_alone() -> None:
    test_each_trains_as_if_alone("gpt2", DROPPING)


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


def test_all_kinds_of_requests_are_answered_in_their_places() -> None:
    """Those that cannot join run by themselves, in the same call."""
    stage, reference = new_stage("llama"), new_stage("llama")
    client = ALIKE[0]
    spec = client.spec("llama", 0)
    specs = [spec, spec.replace(labels=Labels.CLIENT), spec.replace(train=False), spec, spec]
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
