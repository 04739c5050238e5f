"""What a session that writes may take of a worker: for what it keeps, asks, and is answered."""

from dataclasses import replace

import pytest

from hsplit_flower.errors import CodecError, WorkerRejectedError
from hsplit_flower.wire.next_tokens import NextTokens
from hsplit_flower.worker.writing_pass import ROWS_AT_A_TIME
from hsplit_flower.worker.writing_session import token_bytes_by_block
from tests.families import VOCABULARY
from tests.tolerances import assert_same
from tests.worker.writing import WIDTH, prompt, spec, stage_of, states, token, unmasked
from tests.workers import load_worker, split_worker


def test_of_many_rows_few_logits_are_there_at_a_time() -> None:
    stage = stage_of("llama")
    sizes: list[int] = []
    head = stage.half.model.get_output_embeddings()
    head.register_forward_hook(lambda module, given, made: sizes.append(len(made)))
    many, few = 2 * ROWS_AT_A_TIME + 9, 5
    asked = [
        (stage.open(spec(cut, kept_tokens=2 * many)), unmasked(rows, 1, num_choices=2))
        for cut, rows in ((2, many), (1, few))
    ]
    replies = stage.handle_together(asked)
    assert max(sizes) == ROWS_AT_A_TIME
    for (_, request), got in zip(asked, replies, strict=True):
        assert isinstance(got, NextTokens), got
        assert got.tokens is not None
        for row in (0, len(request.hidden) - 1):
            one = replace(request, hidden=request.hidden[row : row + 1])
            cut = 2 if len(request.hidden) == many else 1
            wanted = stage.handle(stage.open(spec(cut)), one)
            assert isinstance(wanted, NextTokens)
            assert_same(got.logits[row : row + 1], wanted.logits, f"row {row}")
            assert_same(got.log_sum[row : row + 1], wanted.log_sum, f"row {row}")


def test_no_reply_is_larger_than_what_is_kept() -> None:
    stage = stage_of("llama")
    session = stage.open(spec(kept_tokens=30))
    with pytest.raises(CodecError, match=r"61 next tokens of each of 15 rows take 10\.98 kB"):
        stage.handle(session, unmasked(15, 2, num_choices=VOCABULARY))
    stage.handle(session, unmasked(15, 2, num_choices=2))
    one = stage.open(spec(kept_tokens=2))
    assert isinstance(stage.handle(one, unmasked(1, 2, num_choices=VOCABULARY)), NextTokens)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"in_flight": 10**6}, "in_flight is 1000000 in a session that writes: 1 is wanted"),
        ({"max_tokens": 101}, "max_tokens is 101 in a session that writes and keeps 100"),
    ],
)
def test_what_waits_takes_no_more_than_what_is_kept(asked: dict[str, int], says: str) -> None:
    """Requests are in memory while they wait, and are counted in with what is kept of them."""
    with pytest.raises(WorkerRejectedError, match=says):
        stage_of("llama").open(spec().replace(**asked))


def test_a_worker_has_room_for_so_many_tokens() -> None:
    half = load_worker("llama")
    per_token = sum(token_bytes_by_block(half).values())
    # Two blocks above cut 1, keys and values of two heads of four float32 numbers.
    assert per_token == 2 * 2 * 2 * 4 * 4
    worker = split_worker(half)
    try:
        # Twice in a pass, and a reply of as many bytes as a hidden state.
        room = int(worker.describe().memory_bytes * 0.5 / (2 * per_token + 4 * WIDTH))
        token_ = worker.open(spec(1, room // 2))
        worker.open(spec(1, room // 2 - 1))
        with pytest.raises(WorkerRejectedError, match=r"of 1\.5 GB for all texts .* are left"):
            worker.open(spec(1, room // 2))
        assert worker.steps() == {}, "sessions that write are no clients of a round"
        worker.close(token_)
        worker.close(worker.open(spec(1, room // 2)))
    finally:
        worker.stop()


def test_a_text_is_no_longer_than_the_model_has_positions() -> None:
    stage = stage_of("llama")
    session = stage.open(spec())
    stage.handle(session, prompt())
    with pytest.raises(CodecError, match="a text of 25 tokens: the model has 24 positions"):
        stage.handle(session, replace(token(2), hidden=states(2, 20, 0)))
