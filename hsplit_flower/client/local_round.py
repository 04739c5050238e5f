"""A client's half of one round: run, send, receive, run back, step."""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..adapters import LowRank, Trainable, adapter_optimizer, attach, collect, starting_points
from ..devices.enforcement import MemoryMeter, Unmetered
from ..errors import NonFiniteError, TransportError
from ..importance import check_finite, probing
from ..metrics import TokenLoss, count_label_tokens, summed_token_loss
from ..splitting import Half
from ..transport.messages import Backward, Forward, Gradient, LastHidden, Loss
from ..transport.stream import Stream
from ..types import Labels, SessionSpec
from .batch import Batch


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one client brings home from a round."""

    loss: TokenLoss
    num_steps: int
    num_examples: int
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
        The global update of the weights below the cut.
    spec
        What the session on the worker was opened with.
    stream
        The dialogue with that session.
    meter
        Holds the round to a memory budget; None for none.
    """

    def __init__(
        self,
        half: Half,
        updates: Mapping[str, LowRank],
        spec: SessionSpec,
        stream: Stream,
        meter: MemoryMeter | None = None,
    ) -> None:
        self._half = half
        self._spec = spec
        self._stream = stream
        self._meter = meter or Unmetered()
        self._weights = half.architecture.weights_in(half.parts.span)
        points = starting_points(
            self._weights,
            updates,
            spec.ranks,
            start=spec.start,
            scale=spec.scale,
            seed=spec.seed,
            dtype=half.dtype,
        )
        self._trainables: dict[str, Trainable] = attach(half.model, points, scale=spec.scale)
        self._optimizer = adapter_optimizer(
            self._trainables, learning_rate=spec.learning_rate, weight_decay=spec.weight_decay
        )

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
        total, num_steps, num_examples = TokenLoss(), 0, 0
        importance: dict[str, float] = {}
        for num_steps, batch in enumerate(batches, start=1):
            with ExitStack() as stack:
                stack.enter_context(self._meter.step(batch.shape))
                is_probe = probe and num_steps == 1
                if is_probe:
                    names = [weight.name for weight in self._weights]
                    importance = stack.enter_context(probing(self._half.model, names))
                total += self._step(num_steps, batch, is_probe=is_probe)
            num_examples += batch.num_examples
        check_finite(importance)
        return Outcome(
            loss=total,
            num_steps=num_steps,
            num_examples=num_examples,
            seconds=time.perf_counter() - started,
            peak_bytes=self._meter.peak_bytes,
            updates=collect(self._trainables, scale=self._spec.scale),
            importance=importance,
        )

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Outcome:
        """The loss of the global model on this client's own examples."""
        started = time.perf_counter()
        self._half.model.eval()
        total, num_steps, num_examples = TokenLoss(), 0, 0
        for num_steps, batch in enumerate(batches, start=1):
            with self._meter.step(batch.shape):
                total += self._loss_on(num_steps, batch)
            num_examples += batch.num_examples
        return Outcome(
            loss=total,
            num_steps=num_steps,
            num_examples=num_examples,
            seconds=time.perf_counter() - started,
            peak_bytes=self._meter.peak_bytes,
        )

    def _loss_on(self, step: int, batch: Batch) -> TokenLoss:
        reply = self._stream.exchange(
            Forward(
                step=step,
                hidden=self._embed(batch),
                labels=self._labels_to_send(batch),
                attention_mask=batch.attention_mask,
                train=False,
            )
        )
        return self._loss_of(reply, batch)[0]

    def _step(self, step: int, batch: Batch, *, is_probe: bool) -> TokenLoss:
        hidden = self._embed(batch)
        reply = self._stream.exchange(
            Forward(
                step=step,
                hidden=hidden.detach(),
                labels=self._labels_to_send(batch),
                attention_mask=batch.attention_mask,
                probe=is_probe,
            )
        )
        loss, gradient = self._loss_of(reply, batch)
        if self._spec.labels is Labels.CLIENT:
            assert gradient is not None
            reply = self._stream.exchange(Backward(step=step, gradient=gradient))
            if not isinstance(reply, Gradient):
                raise TransportError(
                    f"a gradient was wanted, the worker sent {type(reply).__name__}"
                )
            gradient = reply.gradient
        if gradient is None or gradient.shape != hidden.shape:
            raise TransportError("the worker's reply has no gradient of the hidden state's shape")
        if hidden.requires_grad:
            hidden.backward(gradient.to(hidden.device, hidden.dtype))
        self._apply()
        return loss

    def _embed(self, batch: Batch) -> Tensor:
        device = self._half.device
        return self._half.embed(batch.input_ids.to(device), batch.attention_mask.to(device))

    def _labels_to_send(self, batch: Batch) -> Tensor | None:
        return batch.labels if self._spec.labels is Labels.SERVER else None

    def _loss_of(self, reply: object, batch: Batch) -> tuple[TokenLoss, Tensor | None]:
        """The step's loss, and the gradient of what was received: replied, or computed here."""
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
            (loss_sum / num_tokens).backward()
        loss = TokenLoss(loss_sum=_finite(float(loss_sum.detach())), num_tokens=num_tokens)
        return loss, last.grad

    def _apply(self) -> None:
        factors = [factor for t in self._trainables.values() for factor in (t.a, t.b)]
        if not all(bool(f.grad.isfinite().all()) for f in factors if f.grad is not None):
            raise NonFiniteError("a gradient below the cut is not finite: lower the learning rate")
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise NonFiniteError(f"the loss is {value}: lower the learning rate")
    return value
