"""Inside a memory budget, or stopped: what is counted, when, and what the error says."""

import gc
import pickle
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.cuda import _utils

from hsplit_flower.devices.memory_budget import LiveTensorMeter, within_budget
from hsplit_flower.errors import OutOfBudgetError
from hsplit_flower.simulation.lease import leased

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


class Card:
    """Stands for the second of a machine's cards: what is asked of its allocator, in order.

    Which card is meant is left to torch, which takes one without a number in some places only.
    """

    TOTAL_BYTES, CURRENT = 1000 * KILOBYTE, 1

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limits: list[float] = []
        self.held: list[weakref.ref[Any]] = []
        self.held_when_emptied: list[bool] = []
        for name in ("set_per_process_memory_fraction", "empty_cache", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: self.CURRENT)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", self.max_memory_allocated)
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda device: SimpleNamespace(total_memory=self.TOTAL_BYTES),
        )

    def set_per_process_memory_fraction(self, fraction: float, device: torch.device) -> None:
        assert _utils._get_device_index(device) == self.CURRENT
        self.limits.append(fraction * self.TOTAL_BYTES)

    def max_memory_allocated(self, device: torch.device) -> int:
        assert _utils._get_device_index(device) == self.CURRENT
        return 70 * KILOBYTE

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        assert _utils._get_device_index(device) == self.CURRENT

    def empty_cache(self) -> None:
        self.held_when_emptied.append(any(one() is not None for one in self.held))


def test_a_card_without_a_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    with (
        leased(0.0, timeout_seconds=1.0) as device,
        within_budget(100 * KILOBYTE, predicted_bytes=1.0, device=device) as meter,
    ):
        assert device == "cuda"
        assert card.limits == [100 * KILOBYTE]
        assert meter.peak_bytes == 70 * KILOBYTE
    assert card.limits[1:] == [card.TOTAL_BYTES]


class _Half:
    """Holds itself, as modules with hooks do."""

    def __init__(self) -> None:
        self.hook = self


@pytest.mark.parametrize("error", [None, torch.cuda.OutOfMemoryError, ValueError])
def test_a_card_is_empty_when_the_round_is_over(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    def train() -> None:
        half = _Half()
        card.held.append(weakref.ref(half))
        if error is not None:
            raise error("no more")

    card = Card(monkeypatch)
    gc.disable()
    try:
        with within_budget(100 * KILOBYTE, predicted_bytes=1.0, device="cuda:1"):
            train()
    except (OutOfBudgetError, ValueError) as caught:
        assert isinstance(caught, OutOfBudgetError) == (error is torch.cuda.OutOfMemoryError)
    finally:
        gc.enable()
    assert card.held_when_emptied[-1] is False


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
