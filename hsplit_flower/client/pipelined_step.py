"""One step of a client in micro-batches, of which several are on the wire at a time.

While one is, the client runs the next ones, and those that came back. Gradients add up on both
sides of the cut, to those of the whole batch.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..adapters import DropoutMasks
from ..batches import Batch
from ..errors import NonFiniteError, TransportError
from ..metrics import TokenLoss, count_label_tokens, summed_token_loss
from ..settings import SessionSpec
from ..splitting import Half
from ..transport.streams import Stream
from ..types import Labels
from ..wire.message_size import largest_message_bytes
from ..wire.messages import Backward, Forward, Gradient, LastHidden, Loss, Settle, Settled
from .protection import Protection


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


class PipelinedStep:
    """Runs a client's half forth and back for one batch after the other.

    Parameters
    ----------
    half
        Embeddings and blocks below the cut; norm and head too where the labels stay here.
    spec
        What the session on the worker was opened with. At most ``spec.max_unanswered`` parts of a
        step are on the wire.
    stream
        The exchange with that session.
    masks
        Of the adapters on the half; told which micro-batch runs.
    micro_batch_size
        Examples that are sent at a time; 0 for the whole batch.
    max_message_bytes
        What the stream carries at a time.
    """

    def __init__(
        self,
        half: Half,
        spec: SessionSpec,
        stream: Stream,
        masks: DropoutMasks,
        micro_batch_size: int,
        max_message_bytes: float = math.inf,
    ) -> None:
        self._half = half
        self._spec = spec
        self._stream = stream
        self._masks = masks
        self._micro_batch_size = micro_batch_size
        self._max_message_bytes = max_message_bytes
        self._protection = Protection(spec)
        # Of the gradients in the last step, on either side, where they are clipped.
        self._own_squared_norm = self._worker_squared_norm = 0.0

    def run(self, step: int, batches: Sequence[Batch], *, is_probe: bool) -> TokenLoss:
        """The loss of a step; where gradients are on, they have been added up when it is there.

        To the worker several batches are one, in micro-batches.
        """
        first, *others = batches
        told = self._parts(first, is_probe=is_probe)
        told += [part for batch in others for part in self._parts(batch, is_probe=False)]
        parts = deque(enumerate(told))
        step_of = _Step(
            number=step,
            num_micro_batches=len(parts),
            total_tokens=sum(count_label_tokens(batch.labels) for batch in batches),
            is_probe=is_probe,
        )
        loss, flights = TokenLoss(), deque[Flight]()
        while parts or flights:
            if parts and len(flights) < self._spec.max_unanswered:
                flights.append(self._send_off(step_of, *parts.popleft()))
                continue
            flight = self._land(step_of, flights.popleft())
            if isinstance(flight, Flight):
                flights.append(flight)
            else:
                loss += flight
        return loss

    def whole_squared_norm(self, squared_norm: float) -> float:
        """That of the step's gradients on both sides, from those here; the next request says it.

        The worker takes its own step when it hears of it. So both sides shorten their gradients by
        one norm, and no request is sent for it.
        """
        self._own_squared_norm = squared_norm
        return squared_norm + self._worker_squared_norm

    def end(self, num_steps: int) -> None:
        """After the last step: have the worker take it, too, where it waits for the norm."""
        if not self._spec.max_gradient_norm:
            return
        reply = self._stream.exchange(Settle(step=num_steps, squared_norm=self._own_squared_norm))
        if not isinstance(reply, Settled):
            raise TransportError(f"the worker sent {type(reply).__name__}, out of turn")

    def _parts(self, batch: Batch, *, is_probe: bool) -> list[Batch]:
        """What of a batch is sent at a time; where it is scored, that which is scored first.

        Importance is ``|W G|`` of the whole batch, as it does not add up over parts. Of a batch
        that no message has room for it is that of the part with the most to learn from.
        """
        if is_probe and self._is_sendable(batch):
            return [batch]
        parts = batch.in_micro_batches(self._micro_batch_size)
        if is_probe:
            parts.sort(key=lambda part: count_label_tokens(part.labels), reverse=True)
        return parts

    def _is_sendable(self, batch: Batch) -> bool:
        types = self._spec.wire_type, self._spec.wire_gradient_type
        width = self._half.architecture.hidden_size
        largest = largest_message_bytes(math.prod(batch.shape), width, *types)
        return largest <= self._max_message_bytes

    def _send_off(self, step: _Step, index: int, batch: Batch) -> Flight:
        """Run a micro-batch through this half and send what comes out."""
        self._masks.at(step.number, index)
        hidden = self._protection.of_hidden(self._embed(batch), step.number, index)
        labels = batch.labels if self._spec.labels is Labels.SERVER else None
        self._stream.send(
            Forward(
                step=step.number,
                hidden=hidden.detach(),
                labels=labels,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                train=torch.is_grad_enabled(),
                earlier_squared_norm=0.0 if index else self._own_squared_norm,
                probe=step.is_probe and index == 0,
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
        if isinstance(reply, Loss | Gradient):
            # With the last micro-batch of the step.
            self._worker_squared_norm = reply.squared_norm
        if not torch.is_grad_enabled():
            return loss
        if self._spec.labels is Labels.CLIENT and flight.loss is None:
            assert gradient is not None
            self._stream.send(
                Backward(
                    step=step.number,
                    gradient=self._protection.of_gradient(gradient, step.number, flight.index),
                    micro_batch=flight.index,
                    num_micro_batches=step.num_micro_batches,
                )
            )
            return replace(flight, loss=loss)
        hidden = flight.hidden
        if gradient is None or gradient.shape != hidden.shape:
            raise TransportError("the worker's reply has no gradient of the hidden state's shape")
        if hidden.requires_grad:
            # Checkpointed blocks run once more.
            self._masks.at(step.number, flight.index)
            hidden.backward(gradient.to(hidden.device, hidden.dtype))
        return loss

    def _embed(self, batch: Batch) -> Tensor:
        here = batch.to(self._half.device)
        return self._half.embed(here.input_ids, here.attention_mask, here.position_ids)

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
        labels = batch.labels.to(device)
        # Norm and head look at one token at a time.
        logits = half.logits(last, None, start=half.architecture.num_blocks)
        smoothing = self._spec.label_smoothing if torch.is_grad_enabled() else 0.0
        loss_sum = summed_token_loss(logits, labels, label_smoothing=smoothing)
        num_tokens = count_label_tokens(labels)
        if last.requires_grad:
            (loss_sum / total_tokens).backward()
        loss = TokenLoss(loss_sum=_finite(float(loss_sum.detach())), num_tokens=num_tokens)
        return loss, last.grad


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise NonFiniteError(f"the loss is {value}: lower the learning rate")
    return value
