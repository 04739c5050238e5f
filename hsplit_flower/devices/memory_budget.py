"""Running inside a memory budget, or failing cleanly.

On CUDA the allocator refuses what would go beyond the budget. On the CPU the bytes of living
tensors are counted. Counting makes a step of a small model slower by a quarter, so only steps that
can set a new peak are counted: the first, which scores importance, the second, in which the
optimizer's moments exist, and every step whose batch is larger than those counted before.
"""

import gc
import traceback
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, final

import torch
from torch import Tensor

from ..costs.metering import LiveBytes
from ..errors import OutOfBudgetError

Shape = tuple[int, int]


class MemoryMeter(Protocol):
    """What a round has held at most, and what it may hold."""

    @property
    @abstractmethod
    def peak_bytes(self) -> float:
        """The most that was held so far; 0 where nothing is measured."""

    @abstractmethod
    def adopt(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made outside, for as long as they live."""

    @abstractmethod
    def setting_up(self) -> AbstractContextManager[None]:
        """Count what is made before the first step."""

    @abstractmethod
    def step(self, shape: Shape) -> AbstractContextManager[None]:
        """Count a step on a batch of this shape, if it can set a new peak."""


@final
class Unmetered:
    """Holds nobody to anything."""

    peak_bytes = 0.0

    def adopt(self, tensors: Iterable[Tensor]) -> None:
        """Count nothing."""

    def setting_up(self) -> AbstractContextManager[None]:
        """Count nothing."""
        return nullcontext()

    def step(self, shape: Shape) -> AbstractContextManager[None]:
        """Count nothing."""
        return nullcontext()


@contextmanager
def within_budget(
    budget_bytes: float, *, predicted_bytes: float, device: torch.device | str
) -> Iterator[MemoryMeter]:
    """Hold what runs inside to a budget on this device.

    Parameters
    ----------
    budget_bytes
        What may be held; 0 for no limit, and no measurement.
    predicted_bytes
        What the plan says will be held, for the error.
    device
        Where the tensors are; a GPU without a number is the current one.

    Raises
    ------
    OutOfBudgetError
        From inside, as soon as more is held, or from here where the allocator refused.
    """
    chosen = torch.device(device)
    if not budget_bytes:
        yield Unmetered()
    elif chosen.type == "cuda":
        # Some of what torch.cuda has to be asked takes no card without a number.
        is_numbered = chosen != torch.device("cuda")
        card = chosen if is_numbered else torch.device("cuda", torch.cuda.current_device())
        with _cuda_limit(budget_bytes, predicted_bytes, card) as meter:
            yield meter
    else:
        yield LiveTensorMeter(budget_bytes, predicted_bytes=predicted_bytes)


@final
class LiveTensorMeter:
    """Counts the bytes of living tensors while steps run, and stops the one that holds too many."""

    def __init__(self, budget_bytes: float, *, predicted_bytes: float = 0.0) -> None:
        self._live = _LimitedBytes(budget_bytes, predicted_bytes)
        self._counted: list[Shape] = []
        self._num_steps = 0

    @property
    def peak_bytes(self) -> float:
        """The most that was held in what has been counted."""
        return float(self._live.peak_bytes)

    def adopt(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made outside, for as long as they live."""
        for tensor in tensors:
            self._live.adopt(tensor)

    @contextmanager
    def setting_up(self) -> Iterator[None]:
        """Count what is made before the first step."""
        with self._live:
            yield

    @contextmanager
    def step(self, shape: Shape) -> Iterator[None]:
        """Count a step on a batch of this shape, if it can set a new peak."""
        self._num_steps += 1
        if any(shape[0] <= rows and shape[1] <= columns for rows, columns in self._counted):
            yield
            return
        with self._live:
            yield
        # The first step has no moments yet: what it held says nothing of later ones.
        if self._num_steps > 1:
            self._counted.append(shape)


@final
class _LimitedBytes(LiveBytes):
    """Living bytes that may not be more than a budget."""

    def __init__(self, budget_bytes: float, predicted_bytes: float) -> None:
        super().__init__()
        self._budget_bytes = budget_bytes
        self._predicted_bytes = predicted_bytes

    def adopt(self, tensor: Tensor) -> None:
        """Count a tensor that was made outside."""
        self._born(tensor)

    def _born(self, tensor: Tensor) -> None:
        super()._born(tensor)
        if self.now_bytes > self._budget_bytes:
            raise OutOfBudgetError(
                predicted_bytes=self._predicted_bytes,
                measured_bytes=float(self.now_bytes),
                budget_bytes=self._budget_bytes,
            )


@final
class _AllocatorMeter:
    """What CUDA's allocator has given out at most."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def peak_bytes(self) -> float:
        """The most that tensors held."""
        return float(torch.cuda.max_memory_allocated(self._device))

    def adopt(self, tensors: Iterable[Tensor]) -> None:
        """Nothing to do: the allocator knows its own."""

    def setting_up(self) -> AbstractContextManager[None]:
        """Nothing to do: the allocator counts always."""
        return nullcontext()

    def step(self, shape: Shape) -> AbstractContextManager[None]:
        """Nothing to do: the allocator counts always."""
        return nullcontext()


@contextmanager
def _cuda_limit(
    budget_bytes: float, predicted_bytes: float, device: torch.device
) -> Iterator[_AllocatorMeter]:
    """Let the allocator of this process have a budget of the card, and no more; then leave none."""
    whole_bytes = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget_bytes / whole_bytes), device)
    try:
        yield _AllocatorMeter(device)
    except BaseException as error:
        # The half is held by the frames that the error came through, until it is dealt with.
        traceback.clear_frames(error.__traceback__)
        if not isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        # The allocation that failed is not in the peak: more than the budget was wanted.
        peak_bytes = float(torch.cuda.max_memory_allocated(device))
        raise OutOfBudgetError(
            predicted_bytes=predicted_bytes,
            measured_bytes=max(peak_bytes, budget_bytes),
            budget_bytes=budget_bytes,
        ) from error
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        # Who has the card next finds what is not given back taken; modules may hold themselves.
        gc.collect()
        torch.cuda.empty_cache()
