"""The worker's half of the model, and one step of one session on it."""

import math
from collections.abc import Mapping
from contextlib import ExitStack

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
from ..errors import AdapterError, CodecError, NonFiniteError, SplitError, WorkerRejectedError
from ..importance import check_finite, probing
from ..metrics import count_label_tokens, summed_token_loss
from ..splitting import Half
from ..transport.messages import Backward, Forward, Gradient, LastHidden, Loss, Reply, Request
from ..types import IGNORED_LABEL, Labels, SessionSpec, Span
from .session import InFlight, Session

MAX_TOKENS = 2**20


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
            If the request does not fit the model or the session.
        NonFiniteError
            If the loss or a gradient is not finite; nothing has been applied then.
        WorkerRejectedError
            If the step is not the next one, nor the last one again.
        """
        key = (request.step, type(request).__name__)
        if (repeated := session.last_replies.get(key)) is not None:
            return repeated
        if request.step != session.num_steps + 1:
            raise WorkerRejectedError(
                f"step {request.step} is out of turn: step {session.num_steps + 1} is next"
            )
        if isinstance(request, Backward):
            reply: Reply = self._finish(session, request)
        else:
            self._check(session, request)
            reply = self._carry_on(session, request)
        session.remember(key, reply)
        if session.in_flight is None:
            session.num_steps += 1
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
        self.half.model.train(request.train)
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(request.train))
            stack.enter_context(self._bank.activate(session.active))
            if request.probe and request.train:
                scores = stack.enter_context(probing(self.half.model, list(session.active.terms)))
            hidden = request.hidden.to(device, self.half.dtype).requires_grad_(request.train)
            if request.labels is None:
                last = self.half.hidden(hidden, mask, start=cut)
                if request.train:
                    session.in_flight = InFlight(hidden=hidden, last=last, scores=scores)
                return LastHidden(step=request.step, hidden=last.detach())
            logits = self.half.logits(hidden, mask, start=cut)
            labels = request.labels.to(device)
            loss_sum, num_tokens = summed_token_loss(logits, labels), count_label_tokens(labels)
            value = _finite(float(loss_sum.detach()), "loss")
            if not request.train:
                return Loss(step=request.step, loss_sum=value, num_tokens=num_tokens)
            (loss_sum / num_tokens).backward()
        gradient = self._apply(session, hidden, scores)
        return Loss(step=request.step, loss_sum=value, num_tokens=num_tokens, gradient=gradient)

    def _finish(self, session: Session, request: Backward) -> Gradient:
        """Back through the blocks above the cut, from the gradient that the client computed."""
        flight, session.in_flight = session.in_flight, None
        if flight is None:
            raise WorkerRejectedError(
                f"no forward pass of step {request.step} waits for a gradient"
            )
        if request.gradient.shape != flight.last.shape:
            raise CodecError(
                f"a gradient of shape {list(request.gradient.shape)}: "
                f"{list(flight.last.shape)} is wanted, that of the last hidden state"
            )
        gradient = request.gradient.to(flight.last.device, flight.last.dtype)
        torch.autograd.backward(flight.last, gradient)
        return Gradient(
            step=request.step, gradient=self._apply(session, flight.hidden, flight.scores)
        )

    def _apply(self, session: Session, hidden: Tensor, scores: Mapping[str, float]) -> Tensor:
        """Take the optimizer's step, unless something is not finite; give the input's gradient."""
        gradient = hidden.grad
        if gradient is None:
            raise WorkerRejectedError("no gradient reached the hidden state")
        gradients = [factor.grad for t in session.trainables.values() for factor in (t.a, t.b)]
        try:
            check_finite(scores)
            if not all(bool(g.isfinite().all()) for g in [gradient, *gradients] if g is not None):
                raise NonFiniteError(
                    "a gradient above the cut is not finite: the step is not taken"
                )
            if session.optimizer is not None:
                session.optimizer.step()
        finally:
            for trainable in session.trainables.values():
                trainable.a.grad = trainable.b.grad = None
        session.importance.update(scores)
        return gradient

    def _check(self, session: Session, request: Forward) -> None:
        """Refuse a request that does not fit the model or the session."""
        architecture, spec = self.half.architecture, session.spec
        batch, seq, width = request.hidden.shape
        if width != architecture.hidden_size:
            raise CodecError(
                f"hidden states of width {width}: {architecture.hidden_size} is wanted"
            )
        if architecture.max_positions is not None and seq > architecture.max_positions:
            raise CodecError(
                f"a sequence of {seq}: the model has {architecture.max_positions} positions"
            )
        if batch * seq > MAX_TOKENS:
            raise CodecError(f"{batch * seq} tokens in one step: at most {MAX_TOKENS} are allowed")
        if request.train and not spec.train:
            raise CodecError("a training step in a session that was opened for evaluation")
        if (request.labels is None) != (spec.labels is Labels.CLIENT):
            raise CodecError(
                f"labels are {'absent' if request.labels is None else 'sent'}, "
                f"the session was opened with labels on the {spec.labels.value}"
            )
        if request.labels is not None:
            self._check_labels(request.labels, is_training=request.train)
        if not bool(request.hidden.isfinite().all()):
            raise NonFiniteError("the hidden state is not finite")

    def _check_labels(self, labels: Tensor, *, is_training: bool) -> None:
        size = self.half.architecture.vocabulary_size
        targets = labels[:, 1:][labels[:, 1:] != IGNORED_LABEL]
        if bool(((targets < 0) | (targets >= size)).any()):
            raise CodecError(f"labels must be {IGNORED_LABEL} or in [0, {size})")
        if is_training and targets.numel() == 0:
            raise CodecError("a step without a single target token cannot be trained on")


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise NonFiniteError(f"the {what} is {value}: the step is not taken")
    return value
