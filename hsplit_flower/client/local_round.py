"""A client's half of one round: run, send, receive, run back, step.

A batch may be cut into micro-batches (`PipelinedStep`), and one optimizer step is taken for all.
"""

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
from ..devices.memory_budget import MemoryMeter, Unmetered
from ..metrics import TokenLoss
from ..settings import SessionSpec
from ..splitting import Half
from ..transport.streams import Stream
from .batch import Batch
from .pipelined_step import PipelinedStep
from .round_loop import Outcome as Outcome
from .round_loop import RoundLoop


class LocalRound(RoundLoop):
    """Trains or evaluates a client's half against its session.

    Parameters
    ----------
    half
        Embeddings and blocks below the cut; norm and head too where the labels stay here.
    updates
        The global update of the weights below the cut. Emptied, as the round takes it over.
    spec
        What the session on the worker was opened with.
    stream
        The exchange with that session.
    meter
        Holds the round to a memory budget; None for none.
    micro_batch_size
        Examples that are sent at a time; 0 for the whole batch. At most ``spec.max_unanswered``
        such parts are on the wire.
    """

    def __init__(
        self,
        half: Half,
        updates: dict[str, LowRank],
        spec: SessionSpec,
        stream: Stream,
        meter: MemoryMeter | None = None,
        micro_batch_size: int = 0,
    ) -> None:
        super().__init__(half, meter or Unmetered())
        self._spec = spec
        self._step = PipelinedStep(half, spec, stream, micro_batch_size)
        self._has_merged = bool(merged_names(self._weights, updates, half.dtype))
        points = take_starting_points(
            self._weights,
            updates,
            spec.ranks,
            start=spec.start,
            scaling=spec.scaling,
            seed=spec.seed,
            dtype=half.dtype,
        )
        self._trainables: dict[str, Trainable] = attach(half.model, points, scaling=spec.scaling)
        self._optimizer = adapter_optimizer(self._trainables, spec)

    def release_half(self) -> bool:
        """Take the adapters off the half, and say whether it is what it was before this round."""
        detach(self._half.model)
        self._half.checkpointing = False
        return not self._has_merged

    def _run(self, number: int, batch: Batch, *, is_probe: bool) -> TokenLoss:
        return self._step.run(number, batch, is_probe=is_probe)

    @property
    def _parameters(self) -> Sequence[nn.Parameter]:
        return [factor for t in self._trainables.values() for factor in (t.a, t.b)]

    def _with_trained(self, outcome: Outcome) -> Outcome:
        return replace(outcome, updates=collect(self._trainables, scaling=self._spec.scaling))
