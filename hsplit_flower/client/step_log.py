"""What is told of a client's round while it goes on: each step to a callback, some to a log."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..metrics import TokenLoss
from ..sizes import bar, digits_text, time_text

EVERY_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """A step that was taken.

    Attributes
    ----------
    server_round, number, num_steps
        Which round, which of its steps, from 1, and how many it has; 0 where nobody has said.
    loss
        Of its batches, over all their tokens; ``loss.mean`` is what was made smaller.
    learning_rate
        That it was taken with.
    num_tokens
        Of its batches, padding included.
    seconds
        That it took, those of making its batches included.
    """

    server_round: int
    number: int
    num_steps: int
    loss: TokenLoss
    learning_rate: float
    num_tokens: int
    seconds: float


OnStep = Callable[[StepDone], object]


class StepLog:
    """Says how far a round is, when some time has gone by since it last did.

    Parameters
    ----------
    say
        Takes a line of words.
    every_seconds
        How much time.
    clock
        Seconds that only go up.
    """

    def __init__(
        self,
        say: Callable[[str], object],
        *,
        every_seconds: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._every_seconds = every_seconds
        self._clock = clock
        self._started = self._said = clock()

    def __call__(self, done: StepDone) -> None:
        """Take notice of a step."""
        now = self._clock()
        if now - self._said < self._every_seconds:
            return
        self._said = now
        self._say(step_words(done, all_seconds=now - self._started))


def step_words(done: StepDone, *, all_seconds: float) -> str:
    """A line: a bar where the number of steps is known, the loss, and the time of a step."""
    each = all_seconds / done.number
    how_far, left = ":", ""
    if done.num_steps >= done.number:
        how_far = f" {bar(done.number / done.num_steps)}"
        left = f", {time_text(each * (done.num_steps - done.number))} left"
    of = f" of {done.num_steps}" if done.num_steps else ""
    return (
        f"round {done.server_round}{how_far} step {done.number}{of}, loss {done.loss.mean:.3f}, "
        f"learning rate {done.learning_rate:.3g}, {digits_text(each)} s a step{left}"
    )


def both_told(log: StepLog, on_step: OnStep | None) -> OnStep:
    """Has the site's own log hear of a step, at times, and whoever wants to."""
    if on_step is None:
        return log

    def told(done: StepDone) -> None:
        log(done)
        on_step(done)

    return told
