"""A client's half of one round: run, send, receive, run back, step.

A batch may be cut into micro-batches (`PipelinedStep`), and one optimizer step is taken for all.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from ..adapters import LowRank
from ..batches import Batch
from ..devices.memory_budget import MemoryMeter, Unmetered
from ..metrics import TokenLoss
from ..settings import SessionSpec
from ..splitting import Half
from ..transport.streams import Stream
from ..transport.traffic import Traffic
from .adapter_loop import AdapterLoop
from .pipelined_step import PipelinedStep
from .round_loop import Outcome


class LocalRound(AdapterLoop):
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
    max_message_bytes
        What the stream carries at a time.
    """

    def __init__(
        self,
        half: Half,
        updates: dict[str, LowRank],
        spec: SessionSpec,
        stream: Stream,
        meter: MemoryMeter | None = None,
        micro_batch_size: int = 0,
        max_message_bytes: float = math.inf,
    ) -> None:
        super().__init__(half, updates, spec, meter or Unmetered())
        self._stream = stream
        self._step = PipelinedStep(
            half, spec, stream, self._masks, micro_batch_size, max_message_bytes
        )

    def _run(self, number: int, batches: Sequence[Batch], *, is_probe: bool) -> TokenLoss:
        return self._step.run(number, batches, is_probe=is_probe)

    def _whole_squared_norm(self, squared_norm: float) -> float:
        return self._step.whole_squared_norm(squared_norm)

    def _stepped(self, batches: Iterable[Batch], *, probe: bool) -> Outcome:
        outcome = super()._stepped(batches, probe=probe)
        if outcome.num_steps and torch.is_grad_enabled():
            self._step.end(outcome.num_steps)
        return replace(outcome, traffic=self._traffic)

    @property
    def _traffic(self) -> Traffic:
        return self._stream.traffic
