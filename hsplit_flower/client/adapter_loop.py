"""The steps of a client that trains adapters, on its half or on the whole model."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ..adapters import (
    LowRank,
    Trainable,
    adapter_optimizer,
    attach,
    collect,
    detach,
    merged_names,
    take_starting_points,
)
from ..devices.memory_budget import MemoryMeter
from ..settings import SessionSpec
from ..splitting import Half
from .round_loop import Outcome, RoundLoop


class AdapterLoop(RoundLoop):
    """Attaches adapters where the global update leaves them to start, and trains nothing else.

    Parameters
    ----------
    half
        What the client has of the model.
    updates
        The global update of its weights. Emptied, as the round takes it over.
    spec
        The recipe, and the client's ranks.
    meter
        Holds the round to a memory budget.
    merges
        Whether the update goes into the weights whatever its rank.
    """

    def __init__(
        self,
        half: Half,
        updates: dict[str, LowRank],
        spec: SessionSpec,
        meter: MemoryMeter,
        *,
        merges: bool = False,
    ) -> None:
        super().__init__(half, spec, meter)
        self._has_merged = bool(
            merged_names(self._weights, updates, half.matrix_dtype, merges=merges)
        )
        points = take_starting_points(
            self._weights,
            updates,
            spec.ranks,
            start=spec.start,
            scaling=spec.scaling,
            seed=spec.seed,
            dtype=half.matrix_dtype,
            merges=merges,
        )
        self._trainables: dict[str, Trainable] = attach(
            half.model, points, scaling=spec.scaling, masks=self._masks
        )
        self._optimizer = adapter_optimizer(self._trainables, spec)

    def release_half(self) -> bool:
        """Take the adapters off; what went into weights stays there."""
        detach(self._half.model)
        self._half.checkpointing = False
        return not self._has_merged

    @property
    def _parameters(self) -> Sequence[nn.Parameter]:
        return [factor for t in self._trainables.values() for factor in (t.a, t.b)]

    def _with_trained(self, outcome: Outcome) -> Outcome:
        return replace(outcome, updates=collect(self._trainables, scaling=self._spec.scaling))
