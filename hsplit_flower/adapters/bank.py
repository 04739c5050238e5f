"""Many sessions' adapters on one base model.

PEFT refuses mixed adapters in training, so the worker has a layer of ours: a forward hook on every
adaptable linear layer of its half adds the low-rank terms of the session that is running. The base
is untouched, its module names too, and a session's parameters belong to the session: opening and
closing one changes nothing for the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..splitting.linear import linear_at, own_matrix_of
from .batched import Active, BatchedAdapters, add_shared
from .low_rank import LowRank


class AdapterBank:
    """Hooks on a model's linear layers that add the active session's low-rank terms.

    Parameters
    ----------
    model
        The half that all sessions share; its weights are frozen.
    names
        The weights that a session may adapt.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self._layers = {name: linear_at(model, name) for name in names}
        self._active: Active | BatchedAdapters | None = None
        self._shared: Mapping[str, LowRank] = {}
        self._pristine: dict[str, Tensor] = {}
        for name, layer in self._layers.items():
            layer.register_forward_hook(self._hook(name))

    @contextmanager
    def activate(self, active: Active | BatchedAdapters) -> Iterator[None]:
        """Run what is inside with one session's terms added, or those of many that joined."""
        self._active = active
        try:
            yield
        finally:
            self._active = None

    def share(self, updates: Mapping[str, LowRank]) -> None:
        """Hold updates of which every session adds a share; on the model's device."""
        self._shared = updates

    @torch.no_grad()
    def merge(self, updates: Mapping[str, LowRank]) -> None:
        """Make each named weight ``W + update`` in memory, and every other one ``W`` again.

        The original of a changed weight is kept on the host, so that rounds do not add up errors.
        """
        for name in set(self._pristine) - set(updates):
            own_matrix_of(self._layers[name], name).copy_(self._pristine.pop(name))
        for name, update in updates.items():
            matrix = own_matrix_of(self._layers[name], name)
            pristine = self._pristine.setdefault(name, matrix.detach().cpu().clone())
            matrix.copy_(pristine.to(matrix.device) + update.dense().to(matrix))

    def _hook(self, name: str) -> Any:
        def add_terms(
            module: nn.Module,
            args: tuple[Float[Tensor, "*batch in_features"]],
            output: Float[Tensor, "*batch out_features"],
        ) -> Tensor | None:
            active = self._active
            if active is None:
                return None
            shared = self._shared.get(name)
            if isinstance(active, BatchedAdapters):
                return active.add(name, shared, args[0], output)
            shares = active.shares.get(name)
            if shared is not None and shares is not None:
                output = add_shared(shared, shares, args[0], output)
            for b, a, scale in active.terms.get(name, ()):
                seen = args[0].to(a.dtype)
                if active.dropout is not None:
                    seen = active.dropout.of(name, seen)
                product = (seen @ a.T) @ b.T
                output = output + (product if scale == 1.0 else product * scale).to(output.dtype)
            return output

        return add_terms
