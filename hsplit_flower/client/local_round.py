"""A client's half of one round: run, send, receive, run back, step.

A batch may be cut into micro-batches (`PipelinedStep`), and one optimizer step is taken for all.
"""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch.nn.utils import get_total_norm

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
from ..errors import NonFiniteError
from ..importance import check_finite, probing
from ..metrics import TokenLoss
from ..settings import SessionSpec
from ..splitting import Half
from ..transport.streams import Stream
from .batch import Batch
from .pipelined_step import PipelinedStep


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one client brings home from a round.

    ``num_batch_tokens`` are those of all steps' batches, padding included: what was computed.
    """

    loss: TokenLoss
    num_steps: int
    num_examples: int
    num_batch_tokens: int
    seconds: float
    peak_bytes: float = 0.0
    updates: Mapping[str, LowRank] = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)


class LocalRound:
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
        self._half = half
        self._spec = spec
        self._step = PipelinedStep(half, spec, stream, micro_batch_size)
        self._meter = meter or Unmetered()
        self._weights = half.architecture.weights_in(half.parts.span)
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

    def train(self, batches: Iterable[Batch], *, probe: bool) -> Outcome:
        """One step a batch; the first one also scores the weights' importance if asked.

        Raises
        ------
        NonFiniteError
            If a loss or gradient is not finite: this client's round is void then.
        TransportError
            If the worker cannot be reached, or refuses.
        OutOfBudgetError
            If the round needs more memory than the meter allows.
        """
        started = time.perf_counter()
        self._half.model.train()
        total, num_steps, num_examples, num_batch_tokens = TokenLoss(), 0, 0, 0
        importance: dict[str, float] = {}
        for num_steps, batch in enumerate(batches, start=1):
            with ExitStack() as stack:
                stack.enter_context(self._meter.step(batch.shape))
                is_probe = probe and num_steps == 1
                if is_probe:
                    names = [weight.name for weight in self._weights]
                    importance = stack.enter_context(probing(self._half.model, names))
                total += self._step.run(num_steps, batch, is_probe=is_probe)
                self._apply()
            num_examples += batch.num_examples
            num_batch_tokens += math.prod(batch.shape)
        check_finite(importance)
        return Outcome(
            loss=total,
            num_steps=num_steps,
            num_examples=num_examples,
            num_batch_tokens=num_batch_tokens,
            seconds=time.perf_counter() - started,
            peak_bytes=self._meter.peak_bytes,
            updates=collect(self._trainables, scaling=self._spec.scaling),
            importance=importance,
        )

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Outcome:
        """The loss of the global model on this client's own examples."""
        started = time.perf_counter()
        self._half.model.eval()
        total, num_steps, num_examples, num_batch_tokens = TokenLoss(), 0, 0, 0
        for num_steps, batch in enumerate(batches, start=1):
            with self._meter.step(batch.shape):
                total += self._step.run(num_steps, batch, is_probe=False)
            num_examples += batch.num_examples
            num_batch_tokens += math.prod(batch.shape)
        return Outcome(
            loss=total,
            num_steps=num_steps,
            num_examples=num_examples,
            num_batch_tokens=num_batch_tokens,
            seconds=time.perf_counter() - started,
            peak_bytes=self._meter.peak_bytes,
        )

    def _apply(self) -> None:
        factors = [factor for t in self._trainables.values() for factor in (t.a, t.b)]
        gradients = [factor.grad for factor in factors if factor.grad is not None]
        # One number for all of them: a device is waited for once, not once a factor.
        if gradients and not bool(get_total_norm(gradients, math.inf).isfinite()):
            raise NonFiniteError("a gradient below the cut is not finite: lower the learning rate")
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
