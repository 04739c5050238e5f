"""Counting bytes of tensors while something runs: real ones, fake ones, and on the meta device."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storage_key(tensor: Tensor) -> int:
    """The same for all views of one storage, while that storage is alive."""
    return int(tensor.untyped_storage()._cdata)


def storage_bytes(tensor: Tensor) -> int:
    """Bytes of the storage behind a tensor, however little of it the tensor shows."""
    return tensor.untyped_storage().nbytes()


class SavedBytes:
    """What autograd keeps for the backward pass, each storage once.

    Parameters
    ----------
    ignore
        Tensors that do not count, such as parameters: they are there anyway.
    """

    def __init__(self, ignore: Iterable[Tensor] = ()) -> None:
        self._ignored = {storage_key(tensor): tensor for tensor in ignore}
        self._kept: dict[int, Tensor] = {}

    @property
    def storages(self) -> dict[int, int]:
        """Bytes by storage."""
        return {key: storage_bytes(tensor) for key, tensor in self._kept.items()}

    @property
    def total_bytes(self) -> int:
        return sum(self.storages.values())

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what the forward pass inside keeps; a recording within another takes precedence."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield

    def forget(self) -> None:
        """Let go of the tensors, so that the backward pass can free them as it goes."""
        self._kept.clear()

    def _keep(self, tensor: Tensor) -> Tensor:
        key = storage_key(tensor)
        if key not in self._ignored:
            # Held, so that no later storage can get the same key.
            self._kept.setdefault(key, tensor.detach())
        return tensor


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operations inside have made and that are still alive.

    Parameters
    ----------
    ignore
        Tensors made before, whose views do not count.
    """

    def __init__(self, ignore: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, int] = {storage_key(tensor): 0 for tensor in ignore}
        self.now_bytes = 0
        self.peak_bytes = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._born(tensor)
        return output

    def reset_peak(self) -> None:
        """Measure the peak from here on."""
        self.peak_bytes = self.now_bytes

    def _born(self, tensor: Tensor) -> None:
        key = storage_key(tensor)
        if key in self._alive:
            return
        self._alive[key] = storage_bytes(tensor)
        self.now_bytes += self._alive[key]
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        weakref.finalize(tensor.untyped_storage(), self._died, key).atexit = False

    def _died(self, key: int) -> None:
        self.now_bytes -= self._alive.pop(key, 0)
