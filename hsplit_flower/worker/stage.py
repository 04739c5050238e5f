"""The worker's half of the model, and one step of one session on it."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from ..adapters import (
    Active,
    AdapterBank,
    LowRank,
    StartingPoint,
    Trainable,
    adapter_optimizer,
    starting_points,
)
from ..errors import AdapterError, NonFiniteError, SplitError, WorkerRejectedError
from ..importance import check_finite, probing
from ..metrics import count_label_tokens, summed_token_loss
from ..splitting import Half
from ..transport.messages import Backward, Forward, Gradient, LastHidden, Loss, Reply, Request
from ..types import SessionSpec, Span
from .admission import check_request
from .session import InFlight, Session


class Stage:
    """Runs sessions' steps on the shared base. Every method is called by the executor's thread.

    Parameters
    ----------
    half
        The blocks above the lowest cut, with norm and head.
    """

    def __init__(self, half: Half) -> None:
        self.half = half
        self._weights = half.architecture.weights_in(half.parts.span)
        self._bank = AdapterBank(half.model, [weight.name for weight in self._weights])
        self._updates: dict[str, LowRank] = {}

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter that sessions start from.

        Weights of blocks that this half does not hold are left out.
        """
        known = {weight.name for weight in self.half.architecture.weights}
        if unknown := sorted(set(updates) - known):
            raise AdapterError(f"the model has no weights {unknown[:3]}")
        device = self.half.device
        held = {
            weight.name: updates[weight.name].to(device)
            for weight in self._weights
            if weight.name in updates
        }
        points = self._starting_points(SessionSpec(client=0, cut=1), self.half.parts.span, held)
        self._updates = held
        merges = {name: point.merge for name, point in points.items() if point.merge is not None}
        self._bank.merge(merges)

    def open(self, spec: SessionSpec) -> Session:
        """A session that starts from the global adapter."""
        self.half.architecture.check_cut(spec.cut)
        lowest = self.half.parts.span.start
        if spec.cut < lowest:
            raise SplitError(f"cut {spec.cut} is below {lowest}, the first block of this worker")
        span = Span(start=spec.cut, stop=self.half.parts.span.stop)
        points = self._starting_points(spec, span, self._updates)
        trainables = {
            name: Trainable(
                b=torch.nn.Parameter(point.trainable_b.to(self.half.device)),
                a=torch.nn.Parameter(point.trainable_a.to(self.half.device)),
            )
            for name, point in points.items()
            if point.trainable_b.shape[1]
        }
        terms: dict[str, list[tuple[Tensor, Tensor, float]]] = {name: [] for name in points}
        for name, point in points.items():
            if point.frozen.rank:
                terms[name].append((point.frozen.b, point.frozen.a, 1.0))
            if name in trainables:
                terms[name].append((trainables[name].b, trainables[name].a, spec.scale))
        optimizer = adapter_optimizer(
            trainables, learning_rate=spec.learning_rate, weight_decay=spec.weight_decay
        )
        return Session(
            spec=spec, active=Active(terms=terms), trainables=trainables, optimizer=optimizer
        )

    def handle(self, session: Session, request: Request) -> Reply:
        """Answer one request of one session.

        Raises
        ------
        CodecError
            If the request does not fit the model or the session; it may be sent again, corrected.
        NonFiniteError
            If the loss or a gradient is not finite; nothing has been applied then, and nothing is
            left of the step's other micro-batches.
        WorkerRejectedError
            If the request is not the next one, nor one of the last step again.
        """
        key = (request.step, request.micro_batch, type(request).__name__)
        if (repeated := session.last_replies.get(key)) is not None:
            return repeated
        check_request(request, session, self.half.architecture)
        try:
            if isinstance(request, Backward):
                reply: Reply = self._finish(session, request)
            else:
                reply = self._carry_on(session, request)
        except BaseException:
            session.forget_step()
            raise
        session.remember(key, reply)
        return reply

    def _starting_points(
        self, spec: SessionSpec, span: Span, updates: Mapping[str, LowRank]
    ) -> dict[str, StartingPoint]:
        return starting_points(
            [weight for weight in self._weights if weight.block in span],
            updates,
            spec.ranks,
            start=spec.start,
            scale=spec.scale,
            seed=spec.seed,
            dtype=self.half.dtype,
        )

    def _carry_on(self, session: Session, request: Forward) -> Reply:
        """Forward through the blocks above the cut; and back, where the labels are here."""
        device, cut = self.half.device, session.spec.cut
        mask = None if request.attention_mask is None else request.attention_mask.to(device)
        scores: dict[str, float] = {}
        step, micro_batch = request.step, request.micro_batch
        self.half.model.train(request.train)
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(request.train))
            stack.enter_context(self._bank.activate(session.active))
            if request.probe and request.train:
                scores = stack.enter_context(probing(self.half.model, list(session.active.terms)))
            # Cut loose: a request that is handled twice must not add its gradients up.
            hidden = request.hidden.detach().to(device, self.half.dtype)
            hidden.requires_grad_(request.train)
            progress = session.start(request)
            if request.labels is None:
                last = self.half.hidden(hidden, mask, start=cut)
                if request.train:
                    progress.in_flight[micro_batch] = InFlight(
                        hidden=hidden, last=last, scores=scores
                    )
                else:
                    session.finish_micro_batch()
                return LastHidden(step=step, hidden=last.detach(), micro_batch=micro_batch)
            logits = self.half.logits(hidden, mask, start=cut)
            labels = request.labels.to(device)
            loss_sum, num_tokens = summed_token_loss(logits, labels), count_label_tokens(labels)
            reply = Loss(
                step=step,
                loss_sum=_finite(float(loss_sum.detach()), "loss"),
                num_tokens=num_tokens,
                micro_batch=micro_batch,
            )
            if not request.train:
                session.finish_micro_batch()
                return reply
            (loss_sum / (request.total_tokens or num_tokens)).backward()
        return replace(reply, gradient=self._apply(session, hidden, scores))

    def _finish(self, session: Session, request: Backward) -> Gradient:
        """Back through the blocks above the cut, from the gradient that the client computed."""
        assert session.progress is not None
        flight = session.progress.in_flight.pop(request.micro_batch)
        gradient = request.gradient.to(flight.last.device, flight.last.dtype)
        torch.autograd.backward(flight.last, gradient)
        return Gradient(
            step=request.step,
            gradient=self._apply(session, flight.hidden, flight.scores),
            micro_batch=request.micro_batch,
        )

    def _apply(self, session: Session, hidden: Tensor, scores: Mapping[str, float]) -> Tensor:
        """Count a micro-batch's gradient in, and step after the last; give the input's gradient.

        Nothing is applied if something is not finite.
        """
        gradient = hidden.grad
        if gradient is None:
            raise WorkerRejectedError("no gradient reached the hidden state")
        check_finite(scores)
        gradients = [factor.grad for factor in session.factors]
        if not all(bool(g.isfinite().all()) for g in [gradient, *gradients] if g is not None):
            raise NonFiniteError("a gradient above the cut is not finite: the step is not taken")
        session.finish_micro_batch()
        session.importance.update(scores)
        return gradient


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise NonFiniteError(f"the {what} is {value}: the step is not taken")
    return value
