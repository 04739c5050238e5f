"""Inside a memory budget, or stopped: what is counted, when, and what the error says."""

import pickle

import pytest
import torch
from torch import Tensor

from hsplit_flower.devices.enforcement import LiveTensorMeter, within_budget
from hsplit_flower.errors import OutOfBudgetError

KILOBYTE = 1024
SHAPE = (4, 16)


def _tensor(kilobytes: int) -> Tensor:
    return torch.zeros(kilobytes * KILOBYTE, dtype=torch.uint8)


def test_what_lives_is_counted_and_what_died_is_not() -> None:
    with within_budget(100 * KILOBYTE, predicted_bytes=0.0, device="cpu") as meter:
        kept = _tensor(10)
        meter.adopt([kept, kept[:5]])
        with meter.step(SHAPE):
            first = _tensor(30)
            del first
            second = _tensor(40)
        with meter.step(SHAPE):
            third = _tensor(45)
        assert meter.peak_bytes == (10 + 40 + 45) * KILOBYTE
        del second, kept
        with meter.setting_up():
            fourth = _tensor(55)
        assert meter.peak_bytes == 100 * KILOBYTE
    assert third.numel() + fourth.numel() == 100 * KILOBYTE


def test_who_takes_more_is_stopped_at_once() -> None:
    reached = []
    with (
        pytest.raises(OutOfBudgetError) as caught,
        within_budget(64 * KILOBYTE, predicted_bytes=50 * KILOBYTE, device="cpu") as meter,
        meter.step(SHAPE),
    ):
        held = [_tensor(40)]
        held.append(_tensor(40))
        reached.append("further")
    assert not reached
    assert caught.value.measured_bytes == 80 * KILOBYTE
    assert caught.value.budget_bytes == 64 * KILOBYTE
    assert caught.value.predicted_bytes == 50 * KILOBYTE
    for size in ("81.92 kB", "65.54 kB", "51.2 kB"):
        assert size in str(caught.value)


def test_a_model_that_is_too_large_is_stopped_before_the_first_step() -> None:
    with (
        pytest.raises(OutOfBudgetError),
        within_budget(10 * KILOBYTE, predicted_bytes=1.0, device="cpu") as meter,
    ):
        meter.adopt([_tensor(6), _tensor(6)])


def test_what_the_backward_pass_makes_is_counted() -> None:
    weight = torch.zeros(64, 64, requires_grad=True)
    meter = LiveTensorMeter(10**6)
    meter.adopt([weight])
    with meter.step(SHAPE):
        (weight @ torch.ones(64)).square().sum().backward()
    assert weight.grad is not None
    assert meter.peak_bytes >= weight.nbytes + weight.grad.nbytes
    needed_bytes = meter.peak_bytes
    weight.grad = None
    short = LiveTensorMeter(needed_bytes - 1.0)
    short.adopt([weight])
    with pytest.raises(OutOfBudgetError), short.step(SHAPE):
        (weight @ torch.ones(64)).square().sum().backward()


def _counts(meter: LiveTensorMeter, shape: tuple[int, int]) -> bool:
    """Whether a step on this shape is counted: by a tensor that is too large to be let live."""
    try:
        with meter.step(shape):
            _tensor(100)
    except OutOfBudgetError:
        return True
    return False


def test_only_steps_that_can_set_a_new_peak_are_counted() -> None:
    meter, strict = LiveTensorMeter(200 * KILOBYTE), LiveTensorMeter(200 * KILOBYTE)
    filler = _tensor(150)
    for each in (meter, strict):
        for _ in range(2):
            with each.step((4, 16)):
                _tensor(1)
        each.adopt([filler])
    # Neither smaller nor as large.
    assert [_counts(meter, shape) for shape in ((4, 16), (2, 16), (4, 9))] == [False] * 3
    assert _counts(meter, (4, 17))
    assert _counts(strict, (5, 1))
    assert filler.nbytes == 150 * KILOBYTE


def test_the_second_step_is_counted_although_it_is_no_larger() -> None:
    # The optimizer's moments are made at the end of the first.
    meter = LiveTensorMeter(200 * KILOBYTE)
    with meter.step(SHAPE):
        moments = _tensor(150)
    assert _counts(meter, SHAPE)
    assert moments.nbytes == 150 * KILOBYTE


def test_without_a_budget_nothing_is_counted() -> None:
    with within_budget(0.0, predicted_bytes=0.0, device="cpu") as meter:
        meter.adopt([_tensor(1)])
        with meter.setting_up(), meter.step(SHAPE):
            _tensor(10)
    assert meter.peak_bytes == 0.0


def test_the_error_crosses_processes() -> None:
    error = OutOfBudgetError(predicted_bytes=1.0, measured_bytes=3.0, budget_bytes=2.0)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.gpu
def test_the_allocator_stops_who_takes_more() -> None:
    budget_bytes = 512 * 2**20
    with (
        pytest.raises(OutOfBudgetError) as caught,
        within_budget(budget_bytes, predicted_bytes=1.0, device="cuda"),
    ):
        torch.zeros(budget_bytes + 2**20, dtype=torch.uint8, device="cuda")
    assert caught.value.measured_bytes >= budget_bytes
    # Afterwards the card is free again.
    assert torch.zeros(budget_bytes + 2**20, dtype=torch.uint8, device="cuda").any().item() is False


@pytest.mark.gpu
def test_the_allocator_measures_who_stays_inside() -> None:
    with within_budget(512 * 2**20, predicted_bytes=1.0, device="cuda:0") as meter:
        torch.zeros(100 * 2**20, dtype=torch.uint8, device="cuda:0")
    assert meter.peak_bytes >= 100 * 2**20
