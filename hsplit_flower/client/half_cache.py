"""Halves kept in this process between messages, so that the next round need not load its own.

Nothing depends on it: a half that is not here is loaded, and one that is kept is as it was loaded,
bit for bit. A half into whose weights an update was merged is therefore not kept, nor is one whose
round failed. Virtual clients that share a process share its halves.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch

from ..splitting import Half, Parts


@dataclass(frozen=True, kw_only=True)
class HalfKey:
    """All that decides what a loaded half is."""

    model: str
    parts: Parts
    revision: str | None
    dtype: torch.dtype
    device: str
    attention: str | None
    quantised: str = ""


@dataclass(kw_only=True)
class Loan:
    """A half that is used for one message.

    ``is_as_loaded`` is set by the borrower at the end, if the half may be lent again: nothing is
    attached to it any more and its weights are those of the checkpoint.
    """

    half: Half
    is_as_loaded: bool = False


class HalfCache:
    """The halves used last, each of them lent to one message at a time."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._halves: dict[HalfKey, Half] = {}

    def make_room(self, key: HalfKey, capacity: int) -> None:
        """Let halves other than this one go until it is one of so many; those used last stay."""
        with self._lock:
            others = [other for other in self._halves if other != key]
            for other in others[: max(0, len(others) - max(0, capacity - 1))]:
                del self._halves[other]

    @contextmanager
    def lend(self, key: HalfKey, load: Callable[[], Half], *, capacity: int) -> Iterator[Loan]:
        """The half of this key, from here or loaded.

        Parameters
        ----------
        key
            Which half.
        load
            Makes it if it is not here. Halves beyond the capacity are let go first, the one that
            was used longest ago before the others: they and the new one need not fit together.
        capacity
            How many halves to keep, the one that is lent among them; 0 keeps none.
        """
        self.make_room(key, capacity)
        with self._lock:
            kept = self._halves.pop(key, None)
        loan = Loan(half=load() if kept is None else kept)
        del kept
        yield loan
        if loan.is_as_loaded and capacity > 0:
            with self._lock:
                self._halves[key] = loan.half

    def clear(self) -> None:
        """Let all halves go."""
        with self._lock:
            self._halves.clear()

    def held_bytes(self, device: str) -> int:
        """What the kept halves take of a kind of device's memory: of ``cpu`` or ``cuda``."""
        with self._lock:
            models = [half.model for half in self._halves.values()]
        tensors = {
            tensor.data_ptr(): tensor.nbytes
            for model in models
            for tensor in (*model.parameters(), *model.buffers())
            if tensor.device.type == device
        }
        return sum(tensors.values())
