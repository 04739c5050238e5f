"""Texts of many sessions in one pass: each goes on as it would alone, or is refused by itself."""

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hsplit_flower.errors import CodecError, HSplitError, NonFiniteError, WorkerRejectedError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.wire.messages import Backward, Forward
from hsplit_flower.wire.next_tokens import NextTokens
from hsplit_flower.worker import Stage
from hsplit_flower.worker.demand import demand_of
from hsplit_flower.worker.scheduler import Limits, Task, next_batch
from hsplit_flower.worker.writing_session import WritingSession
from tests.families import FAMILIES
from tests.tolerances import assert_same
from tests.worker.writing import prompt, spec, stage_of, states, token
from tests.workers import load_worker, split_worker

NUM_STEPS = 4
TEXTS = [(2, 1, 7), (1, 3, 4), (3, 2, 5), (1, 1, 9)]
"""Of each session: its cut, its rows, and the tokens of its prompt."""


def written(stage: Stage, *, together: bool) -> list[list[Tensor]]:
    """The logits of all steps of each session."""
    sessions = [stage.open(spec(cut)) for cut, _, _ in TEXTS]
    logits: list[list[Tensor]] = [[] for _ in TEXTS]
    for number, (session, (_, rows, new)) in enumerate(zip(sessions, TEXTS, strict=True)):
        stage.handle(session, prompt(rows, new, seed=number))
    for step in range(2, 2 + NUM_STEPS):
        asked = [
            (session, token(step, rows, seed=10 * number + step))
            for number, (session, (_, rows, _)) in enumerate(zip(sessions, TEXTS, strict=True))
        ]
        if together:
            replies = stage.handle_together(asked)
        else:
            replies = [stage.handle(*each) for each in asked]
        for own, reply in zip(logits, replies, strict=True):
            assert isinstance(reply, NextTokens), reply
            own.append(reply.logits)
    return logits


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_goes_on_as_it_does_alone(name: str) -> None:
    """At different cuts, with other rows and lengths, beyond the families' windows."""
    stage = stage_of(name)
    together, alone = written(stage, together=True), written(stage, together=False)
    for number, (got, wanted) in enumerate(zip(together, alone, strict=True)):
        assert_same(torch.stack(got), torch.stack(wanted), f"the logits of session {number}")


def test_the_likeliest_tokens_are_given_with_the_sum_of_all() -> None:
    stage = stage_of("llama")
    session, other = stage.open(spec()), stage.open(spec())
    stage.handle(session, prompt())
    stage.handle(other, prompt())
    whole, some = stage.handle(session, token(2)), stage.handle(other, token(2, num_choices=5))
    assert isinstance(whole, NextTokens)
    assert isinstance(some, NextTokens)
    assert whole.tokens is None
    values, tokens = whole.logits.topk(5)
    assert torch.equal(some.logits, values)
    assert some.tokens is not None
    assert torch.equal(some.tokens, tokens)
    assert torch.allclose(some.log_sum, whole.logits.exp().sum(1).log())


def test_a_request_that_comes_again_adds_nothing() -> None:
    stage = stage_of("llama")
    session = stage.open(spec())
    assert isinstance(session, WritingSession)
    stage.handle(session, prompt())
    first, again = stage.handle(session, token(2)), stage.handle(session, token(2))
    assert first is again
    assert session.kept is not None
    assert session.kept.num_positions == 6
    with pytest.raises(WorkerRejectedError, match="comes again with another content"):
        stage.handle(session, token(2, seed=5))


def test_rows_go_on_from_the_rows_that_are_named() -> None:
    stage = stage_of("llama")
    session, other = stage.open(spec()), stage.open(spec())
    begun = prompt()
    stage.handle(session, begun)
    turned = replace(
        begun, hidden=begun.hidden.flip(0), attention_mask=begun.attention_mask.flip(0)
    )
    stage.handle(other, turned)
    got = stage.handle(session, token(2, parents=torch.tensor([1, 0])))
    wanted = stage.handle(other, token(2))
    assert isinstance(got, NextTokens)
    assert isinstance(wanted, NextTokens)
    assert_same(got.logits, wanted.logits, "logits")


def test_a_text_may_begin_anew() -> None:
    stage = stage_of("llama")
    session = stage.open(spec())
    first = stage.handle(session, prompt(num_choices=3))
    stage.handle(session, token(2))
    again = stage.handle(session, replace(prompt(num_choices=3), step=3))
    assert isinstance(first, NextTokens)
    assert isinstance(again, NextTokens)
    assert torch.equal(first.logits, again.logits)


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (token(1), WorkerRejectedError, "no text has begun in this session"),
        (token(2, 3), CodecError, "3 rows: the text that is kept has 2"),
        (token(2, parents=torch.tensor([0, 2])), CodecError, r"must be in \[0, 2\)"),
        (
            replace(token(2), hidden=states(2, 11, 0)),
            CodecError,
            "2 rows of 16 tokens: the session was opened to keep 30 tokens",
        ),
        (token(3), WorkerRejectedError, "step 3 is out of turn: step 2 is next"),
        (token(2, num_choices=0), CodecError, "0 next tokens are asked for: 1 to 61"),
        (token(2, num_choices=62), CodecError, "62 next tokens are asked for"),
        (
            token(2, attention_mask=torch.ones(2, 1, dtype=torch.long)),
            CodecError,
            "a mask comes with the first tokens",
        ),
        (
            replace(prompt(), step=2, attention_mask=torch.tensor([[1, 1, 1, 1, 0]] * 2)),
            CodecError,
            "zeros on the left",
        ),
        (
            replace(prompt(), step=2, parents=torch.tensor([0, 1])),
            CodecError,
            "has no rows of before",
        ),
        (token(2, hidden=states(2, 1, 0) / 0), NonFiniteError, "hidden state is not finite"),
        (Forward(step=2, hidden=states(2, 1, 0)), CodecError, "Forward in a session"),
        (Backward(step=2, gradient=states(2, 1, 0)), CodecError, "opened to write"),
    ],
)
def test_what_does_not_go_on_is_refused_and_changes_nothing(
    request_: Any, error: type[HSplitError], says: str
) -> None:
    stage = stage_of("llama")
    session = stage.open(spec(kept_tokens=30))
    if request_.step > 1:
        stage.handle(session, prompt())
    with pytest.raises(error, match=says):
        stage.handle(session, request_)
    assert session.num_steps == request_.step - 1 - (request_.step == 3)
    if request_.step > 1:
        stage.handle(session, token(2))


def test_a_training_session_writes_nothing() -> None:
    stage = stage_of("llama")
    with pytest.raises(CodecError, match="Extend in a session that was opened to train"):
        stage.handle(stage.open(SessionSpec(client=0, cut=2)), prompt())


def test_what_is_not_finite_in_one_text_stays_there() -> None:
    stage = stage_of("gpt2")
    session, other = stage.open(spec()), stage.open(spec())
    for each in (session, other):
        stage.handle(each, prompt())
    asked = [(session, token(2)), (other, token(2, hidden=states(2, 1, 0) * 1e38))]
    good, bad = stage.handle_together(asked)
    assert isinstance(good, NextTokens)
    assert isinstance(bad, NonFiniteError)
    assert isinstance(other, WritingSession)
    assert other.kept is not None
    assert other.kept.num_positions == 5
    assert isinstance(stage.handle(other, token(2)), NextTokens)


def test_next_tokens_share_a_pass_whatever_their_lengths() -> None:
    """Of two texts of 5 and 15 tokens a quarter and more is padding."""
    worker = split_worker(load_worker("llama"))
    try:
        tokens = [worker.open(spec()) for _ in range(2)]
        for own, new in zip(tokens, (5, 15), strict=True):
            worker.exchange(own, prompt(1, new))
        sessions = [worker._sessions.find(own) for own in tokens]
    finally:
        worker.stop()
    tasks = [
        Task(
            arrival=number,
            work=None,
            owner=number,
            demand=demand_of(token(2, 1), session, None),
            future=Future(),
        )
        for number, session in enumerate(sessions)
    ]
    assert len(next_batch(tasks, Limits())) == 2
    assert len(next_batch(tasks, Limits(max_tokens=31))) == 1
