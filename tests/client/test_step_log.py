"""What a client's own log says while a round goes on."""

import pytest

from hsplit_flower.client.step_log import StepDone, StepLog, step_words
from hsplit_flower.metrics import TokenLoss


def _done(number: int, num_steps: int = 40) -> StepDone:
    return StepDone(
        server_round=3,
        number=number,
        num_steps=num_steps,
        loss=TokenLoss(loss_sum=5.0, num_tokens=2),
        learning_rate=8e-3,
        num_tokens=64,
        seconds=0.5,
    )


def test_it_speaks_when_some_time_has_gone_by() -> None:
    now, said = [100.0], list[str]()
    log = StepLog(said.append, every_seconds=10.0, clock=lambda: now[0])
    for number in range(1, 41):
        now[0] += 0.75
        log(_done(number))
    assert [line.split(" step ")[1].split(",")[0] for line in said] == ["14 of 40", "28 of 40"]


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (
            _done(10),
            "round 3 [######------------------] step 10 of 40, loss 2.500, learning rate 0.008, "
            "2.00 s a step, 60 s left",
        ),
        (
            _done(40),
            "round 3 [########################] step 40 of 40, loss 2.500, learning rate 0.008, "
            "0.50 s a step, 0 s left",
        ),
        (_done(10, 0), "round 3: step 10, loss 2.500, learning rate 0.008, 2.00 s a step"),
        (_done(10, 4), "round 3: step 10 of 4, loss 2.500, learning rate 0.008, 2.00 s a step"),
    ],
)
def test_a_line_has_a_bar_where_the_number_of_steps_is_known(done: StepDone, words: str) -> None:
    assert step_words(done, all_seconds=20.0) == words
