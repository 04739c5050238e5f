"""The rate of every step is that of PyTorch's schedulers, and of transformers' and FlowerTune's."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import LearningRate, Schedule, ScheduleOver, SessionSpec

RATE, FINAL = 3e-2, 2e-3
Scheduled = Callable[[torch.optim.Optimizer], LRScheduler]


def _wanted(scheduled: Scheduled, num_steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=RATE)
    scheduler, rates = scheduled(optimizer), []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _rates(recipe: LearningRate, num_rounds: int, num_steps: int) -> list[float]:
    return [
        recipe.rate_of(step, num_steps=num_steps, server_round=number, num_rounds=num_rounds)
        for number in range(1, num_rounds + 1)
        for step in range(1, num_steps + 1)
    ]


@pytest.mark.parametrize("over", [ScheduleOver.RUN, ScheduleOver.ROUND])
@given(num_rounds=st.integers(1, 5), num_steps=st.integers(1, 12))
def test_without_warm_up_it_is_torchs_own(
    over: ScheduleOver, num_rounds: int, num_steps: int
) -> None:
    recipe = LearningRate(learning_rate=RATE, final_learning_rate=FINAL, schedule_over=over)
    total = num_steps * (num_rounds if over is ScheduleOver.RUN else 1)
    own: dict[Schedule, Scheduled] = {
        Schedule.LINEAR: lambda o: LinearLR(o, 1.0, FINAL / RATE, total_iters=total),
        Schedule.COSINE: lambda o: CosineAnnealingLR(o, total, eta_min=FINAL),
    }
    for schedule, scheduled in own.items():
        wanted = _wanted(scheduled, total) * (num_rounds * num_steps // total)
        found = _rates(recipe.replace(schedule=schedule), num_rounds, num_steps)
        assert found == pytest.approx(wanted, rel=1e-9)


@given(num_rounds=st.integers(1, 5), num_steps=st.integers(1, 12), warmup=st.integers(0, 20))
def test_with_warm_up_it_is_that_of_transformers(
    num_rounds: int, num_steps: int, warmup: int
) -> None:
    total = num_rounds * num_steps
    recipe = LearningRate(learning_rate=RATE, warmup_steps=float(warmup))
    own: dict[Schedule, Scheduled] = {
        Schedule.CONSTANT: lambda o: get_constant_schedule_with_warmup(o, warmup),
        Schedule.LINEAR: lambda o: get_linear_schedule_with_warmup(o, warmup, total),
        Schedule.COSINE: lambda o: get_cosine_with_min_lr_schedule_with_warmup(
            o, warmup, total, min_lr=FINAL
        ),
    }
    for schedule, scheduled in own.items():
        final = FINAL if schedule is Schedule.COSINE else 0.0
        one = recipe.replace(schedule=schedule, final_learning_rate=final)
        wanted = _wanted(scheduled, total)
        assert _rates(one, num_rounds, num_steps) == pytest.approx(wanted, rel=1e-9)


@given(num_rounds=st.integers(1, 9), num_steps=st.integers(1, 4))
def test_by_round_it_is_that_of_flowertune(num_rounds: int, num_steps: int) -> None:
    recipe = LearningRate(
        learning_rate=RATE,
        final_learning_rate=FINAL,
        schedule=Schedule.COSINE,
        schedule_over=ScheduleOver.BY_ROUND,
    )
    found = _rates(recipe, num_rounds, num_steps)
    wanted = [
        FINAL + 0.5 * (RATE - FINAL) * (1 + math.cos(math.pi * number / num_rounds))
        for number in range(1, num_rounds + 1)
        for _ in range(num_steps)
    ]
    assert found == pytest.approx(wanted, rel=1e-9)
    assert found[-1] == pytest.approx(FINAL)


def test_a_share_of_warm_up_is_of_all_steps() -> None:
    share = LearningRate(learning_rate=RATE, schedule=Schedule.LINEAR, warmup_steps=0.3)
    assert _rates(share, 2, 5) == _rates(share.replace(warmup_steps=3.0), 2, 5)
    # What is no whole number of steps is rounded up, as transformers does.
    assert _rates(share, 1, 11) == _rates(share.replace(warmup_steps=4.0), 1, 11)


def test_the_rate_is_never_another_one_where_none_is_asked_for() -> None:
    assert LearningRate().is_constant
    assert set(_rates(LearningRate(learning_rate=RATE), 3, 4)) == {RATE}
    # Nor does it go on falling beyond its end.
    linear = LearningRate(learning_rate=RATE, schedule=Schedule.LINEAR, final_learning_rate=FINAL)
    assert linear.rate_of(9, num_steps=4, server_round=1, num_rounds=1) == pytest.approx(FINAL)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"schedule": "linear", "final_learning_rate": 1.0}, "must be at most learning_rate"),
        ({"schedule": "cosine", "schedule_over": "by-round"}, "the last round would learn nothing"),
    ],
)
def test_a_schedule_that_does_not_fall_is_refused(values: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LearningRate(learning_rate=RATE, **values)


@pytest.mark.parametrize(
    ("values", "follows"),
    [
        ({}, False),
        ({"schedule": "linear"}, True),
        ({"warmup_steps": 0.1}, True),
        ({"schedule": "linear", "schedule_over": "by-round", "final_learning_rate": 1e-9}, False),
    ],
)
def test_steps_must_be_known_where_the_rate_goes_by_them(
    values: dict[str, str], follows: bool
) -> None:
    assert SessionSpec(client=0, cut=1, **values).follows_steps == follows
