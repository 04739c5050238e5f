"""A client's half of one round: run, send, receive, run back, step.

A batch may be cut into micro-batches, of which several are on the wire at a time: while one is, the
client runs the next ones, and those that came back. Gradients add up on both sides of the cut, to
those of the whole batch, and one optimizer step is taken for all.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
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
from ..errors import NonFiniteError, TransportError
from ..importance import check_finite, probing
from ..metrics import TokenLoss, count_label_tokens, summed_token_loss
from ..splitting import Half
from ..transport.streams import Stream
from ..types import Labels, SessionSpec
from ..wire.messages import Backward, Forward, Gradient, LastHidden, Loss
from .batch import Batch


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


@dataclass(frozen=True, kw_only=True)
class Flight:
    """A micro-batch that the worker has now, and the end of its graph here.

    ``loss`` is that of what came back already, where the labels stay here; its gradient is under
    way then.
    """

    index: int
    batch: Batch
    hidden: Tensor
    loss: TokenLoss | None = None


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What the micro-batches of a step share."""

    number: int
    num_micro_batches: int
    total_tokens: int
    is_probe: bool


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
        The dialogue with that session.
    meter
        Holds the round to a memory budget; None for none.
    micro_batch_size
        Examples that are sent at a time; 0 for the whole batch. ``spec.in_flight`` of them are on
        the wire at most.
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
        self._stream = stream
        self._meter = meter or Unmetered()
        self._micro_batch_size = micro_batch_size
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
        self._optimizer = adapter_optimizer(
            self._trainables, learning_rate=spec.learning_rate, weight_decay=spec.weight_decay
        )

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
                total += self._run(num_steps, batch, is_probe=is_probe)
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
                total += self._run(num_steps, batch, is_probe=False)
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

    def _run(self, step: int, batch: Batch, *, is_probe: bool) -> TokenLoss:
        """The loss of a step; where gradients are on, they have been added up when it is there."""
        # Importance is |W G| of the whole batch: it does not add up over parts.
        parts = deque(enumerate(batch.in_micro_batches(0 if is_probe else self._micro_batch_size)))
        step_of = _Step(
            number=step,
            num_micro_batches=len(parts),
            total_tokens=count_label_tokens(batch.labels),
            is_probe=is_probe,
        )
        loss, flights = TokenLoss(), deque[Flight]()
        while parts or flights:
            if parts and len(flights) < self._spec.in_flight:
                flights.append(self._send_off(step_of, *parts.popleft()))
                continue
            flight = self._land(step_of, flights.popleft())
            if isinstance(flight, Flight):
                flights.append(flight)
            else:
                loss += flight
        return loss

    def _send_off(self, step: _Step, index: int, batch: Batch) -> Flight:
        """Run a micro-batch through this half and send what comes out."""
        hidden = self._embed(batch)
        labels = batch.labels if self._spec.labels is Labels.SERVER else None
        self._stream.send(
            Forward(
                step=step.number,
                hidden=hidden.detach(),
                labels=labels,
                attention_mask=batch.attention_mask,
                train=torch.is_grad_enabled(),
                probe=step.is_probe,
                micro_batch=index,
                num_micro_batches=step.num_micro_batches,
                # Of no use to a worker that computes no loss.
                total_tokens=0
                if labels is None or step.num_micro_batches == 1
                else step.total_tokens,
            )
        )
        return Flight(index=index, batch=batch, hidden=hidden)

    def _land(self, step: _Step, flight: Flight) -> Flight | TokenLoss:
        """Take the reply to a micro-batch: its loss when it is done, else its second flight."""
        reply, loss = self._stream.receive(), flight.loss
        if loss is not None:
            if not isinstance(reply, Gradient):
                raise TransportError(
                    f"a gradient was wanted, the worker sent {type(reply).__name__}"
                )
            gradient: Tensor | None = reply.gradient
        else:
            loss, gradient = self._loss_of(reply, flight.batch, step.total_tokens)
        if not torch.is_grad_enabled():
            return loss
        if self._spec.labels is Labels.CLIENT and flight.loss is None:
            assert gradient is not None
            self._stream.send(
                Backward(
                    step=step.number,
                    gradient=gradient,
                    micro_batch=flight.index,
                    num_micro_batches=step.num_micro_batches,
                )
            )
            return replace(flight, loss=loss)
        hidden = flight.hidden
        if gradient is None or gradient.shape != hidden.shape:
            raise TransportError("the worker's reply has no gradient of the hidden state's shape")
        if hidden.requires_grad:
            hidden.backward(gradient.to(hidden.device, hidden.dtype))
        return loss

    def _embed(self, batch: Batch) -> Tensor:
        device = self._half.device
        return self._half.embed(batch.input_ids.to(device), batch.attention_mask.to(device))

    def _loss_of(
        self, reply: object, batch: Batch, total_tokens: int
    ) -> tuple[TokenLoss, Tensor | None]:
        """A micro-batch's loss, and the gradient of what was sent or, computed here, received."""
        if isinstance(reply, Loss) and self._spec.labels is Labels.SERVER:
            loss = TokenLoss(loss_sum=_finite(reply.loss_sum), num_tokens=reply.num_tokens)
            return loss, reply.gradient
        if not isinstance(reply, LastHidden) or self._spec.labels is Labels.SERVER:
            raise TransportError(f"the worker sent {type(reply).__name__}, out of turn")
        half, device = self._half, self._half.device
        last = reply.hidden.to(device, half.dtype).requires_grad_(torch.is_grad_enabled())
        mask, labels = batch.attention_mask.to(device), batch.labels.to(device)
        logits = half.logits(last, mask, start=half.architecture.num_blocks)
        loss_sum, num_tokens = summed_token_loss(logits, labels), count_label_tokens(labels)
        if last.requires_grad:
            (loss_sum / total_tokens).backward()
        loss = TokenLoss(loss_sum=_finite(float(loss_sum.detach())), num_tokens=num_tokens)
        return loss, last.grad

    def _apply(self) -> None:
        factors = [factor for t in self._trainables.values() for factor in (t.a, t.b)]
        gradients = [factor.grad for factor in factors if factor.grad is not None]
        # One number for all of them: a device is waited for once, not once a factor.
        if gradients and not bool(get_total_norm(gradients, math.inf).isfinite()):
            raise NonFiniteError("a gradient below the cut is not finite: lower the learning rate")
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise NonFiniteError(f"the loss is {value}: lower the learning rate")
    return value
