"""The learning rate of every step of a run, from which both sides of a cut compute the same."""

import math
from enum import Enum

from pydantic import model_validator
from typing_extensions import Self

from .fields import setting
from .group import Settings


class Schedule(str, Enum):
    """What becomes of the learning rate after its warm-up.

    With ``s`` from 0 to 1 over the schedule, ``η`` the learning rate and ``η₁`` the final one:
    ``CONSTANT`` is ``η``; ``LINEAR`` is ``η + (η₁ − η) s``; ``COSINE`` is
    ``η₁ + (η − η₁) (1 + cos πs) / 2`` (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5).
    """

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class ScheduleOver(str, Enum):
    """What a schedule goes over.

    ``RUN``: all steps of all rounds. ``ROUND``: the steps of each round, and then anew.
    ``BY_ROUND``: the rounds; all steps of a round have one rate.
    """

    RUN = "run"
    ROUND = "round"
    BY_ROUND = "by-round"


class LearningRate(Settings):
    """A rate, how it rises in the beginning, and how it falls."""

    learning_rate: float = setting(
        1e-3,
        "AdamW's. Larger bases want a smaller one (GPT-2 medium about 2e-4), tiny ones a larger.",
        gt=0,
    )
    schedule: Schedule = setting(
        Schedule.CONSTANT,
        "Whether the learning rate stays as it is (constant), or falls to final-learning-rate in "
        "a line (linear) or in half a wave (cosine).",
        strict=False,
    )
    schedule_over: ScheduleOver = setting(
        ScheduleOver.RUN,
        "What the schedule and its warm-up go over: the steps of the whole run (run), those of "
        "each round (round), or the rounds, with one rate for all steps of a round (by-round).",
        strict=False,
    )
    warmup_steps: float = setting(
        0.0,
        "Steps, or rounds under by-round, in which the learning rate rises from 0; below 1 it is "
        "the share of all of them.",
        ge=0,
    )
    final_learning_rate: float = setting(
        0.0, "Where linear and cosine end; by-round it is that of the last round.", ge=0
    )

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.schedule is Schedule.CONSTANT:
            return self
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate must be at most learning_rate ({self.learning_rate:g}), "
                f"got {self.final_learning_rate:g}"
            )
        if self.schedule_over is ScheduleOver.BY_ROUND and not self.final_learning_rate:
            raise ValueError(
                "final_learning_rate must be a positive number where schedule_over is by-round: "
                "the last round would learn nothing"
            )
        return self

    @property
    def is_constant(self) -> bool:
        """Whether all steps have one rate."""
        return self.schedule is Schedule.CONSTANT and not self.warmup_steps

    @property
    def follows_steps(self) -> bool:
        """Whether it must be known how many steps a round has."""
        return not self.is_constant and self.schedule_over is not ScheduleOver.BY_ROUND

    def rate_of(self, step: int, *, num_steps: int, server_round: int, num_rounds: int) -> float:
        """The learning rate of one step.

        As PyTorch's own schedulers and those of transformers have it: the first step is number 0 of
        the schedule. By round it is the round's own number, as FlowerTune's clients reckon, so that
        the last round has the final rate. What goes on beyond the end keeps the last rate.

        Parameters
        ----------
        step, num_steps
            Which step of the round, from 1, and how many it has.
        server_round, num_rounds
            Which round of the run, from 1, and how many it has.
        """
        match self.schedule_over:
            case ScheduleOver.RUN:
                at, end = (server_round - 1) * num_steps + step - 1, num_rounds * num_steps
            case ScheduleOver.ROUND:
                at, end = step - 1, num_steps
            case ScheduleOver.BY_ROUND:
                at, end = server_round, num_rounds
        warmup = self.warmup_steps
        warmup = math.ceil(warmup * end) if warmup < 1 else int(warmup)
        if at < warmup:
            return self.learning_rate * at / warmup
        return self._after_warmup(min(1.0, (at - warmup) / max(1, end - warmup)))

    def _after_warmup(self, share: float) -> float:
        highest, lowest = self.learning_rate, self.final_learning_rate
        match self.schedule:
            case Schedule.CONSTANT:
                return highest
            case Schedule.LINEAR:
                return highest + (lowest - highest) * share
            case Schedule.COSINE:
                return lowest + (highest - lowest) * (1 + math.cos(math.pi * share)) / 2
