"""The worker's half of the model, and one step of one session on it."""

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..adapters import (
    Active,
    AdapterBank,
    LowRank,
    NotRowwiseError,
    StartingPoint,
    Trainable,
    adapter_optimizer,
    starting_points,
)
from ..errors import SplitError
from ..settings import SessionSpec
from ..splitting import Half
from ..types import Span
from ..wire.messages import Forward, Loss, Reply, Request, Settle, Settled
from ..wire.next_tokens import Extend
from .admission import (
    check_alike,
    check_can_share,
    check_content,
    check_names,
    check_ranks,
    check_turn,
)
from .batched_pass import Group, Part, PassResult, group_of, run_pass
from .finiteness import check_gradients, finite
from .probing import probing_above_cut
from .session import Session
from .u_shaped_pass import UShapedPass
from .writing_admission import check_bounds, check_follows
from .writing_pass import WritingPart, write_together
from .writing_session import WritingSession, WritingSessions

logger = logging.getLogger(__name__)

Outcome = Reply | Exception


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
        self._shared: Session | None = None
        self._global = Active(terms={})
        self._u_shaped = UShapedPass(half, self._bank)
        self._can_join = True
        self._writing = WritingSessions(half)

    @property
    def update_bytes(self) -> int:
        """What the global update's factors take."""
        return sum(update.b.nbytes + update.a.nbytes for update in self._updates.values())

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter that sessions start from.

        Weights of blocks that this half does not hold are left out.
        """
        check_names(updates, self.half.architecture)
        device = self.half.device
        held = {
            weight.name: updates[weight.name].to(device)
            for weight in self._weights
            if weight.name in updates
        }
        points = self._starting_points(SessionSpec(client=0, cut=1), self.half.parts.span, held)
        self._updates = held
        self._shared = None
        merges = {name: point.merge for name, point in points.items() if point.merge is not None}
        self._bank.merge(merges)
        self._bank.share(held)
        shares = {name: point.frozen_shares().to(device) for name, point in points.items()}
        self._global = Active(terms={}, shares={n: s for n, s in shares.items() if s.any()})

    def open(self, spec: SessionSpec) -> Session:
        """A session that starts from the global adapter.

        Raises
        ------
        SplitError
            If this worker does not hold its blocks.
        AdapterError
            If the model's weights cannot have its ranks, or it is to share the adapter of sessions
            that are not alike.
        """
        self.half.architecture.check_cut(spec.cut)
        lowest = self.half.parts.span.start
        if spec.cut < lowest:
            raise SplitError(f"cut {spec.cut} is below {lowest}, the first block of this worker")
        check_ranks(spec, self.half.architecture)
        if spec.writes:
            check_bounds(spec)
            return self._writing.open(spec, self._global)
        if not spec.shares_adapters:
            return self._fresh(spec)
        if self._shared is None:
            check_can_share(spec)
            self._shared = self._fresh(spec)
        check_alike(spec, self._shared.spec)
        return Session(
            spec=spec,
            active=self._shared.active,
            trainables=self._shared.trainables,
            optimizer=self._shared.optimizer,
        )

    def _fresh(self, spec: SessionSpec) -> Session:
        """A session with factors and an optimizer of its own."""
        span = Span(start=spec.cut, stop=self.half.parts.span.stop)
        points = self._starting_points(spec, span, self._updates)
        trainables = {
            name: _trainable(point, self.half.device)
            for name, point in points.items()
            if point.trainable_b.shape[1]
        }
        scaling = spec.scaling
        terms = {name: [(t.b, t.a, scaling.of(t.rank))] for name, t in trainables.items()}
        shares = {
            name: shares.to(self.half.device)
            for name, point in points.items()
            if (shares := self._shares(spec, name, point)).any()
        }
        return Session(
            spec=spec,
            active=Active(terms=terms, shares=shares),
            trainables=trainables,
            optimizer=adapter_optimizer(trainables, spec),
        )

    def _shares(self, spec: SessionSpec, name: str, point: StartingPoint) -> Tensor:
        """How much of each direction of the global update a session adds to what is in ``W``."""
        if not spec.truncates:
            return point.frozen_shares()
        # It has nothing that it does not train: what went into W is taken off again.
        rank = self._updates[name].rank if name in self._updates else 0
        return torch.full((rank,), -1.0 if point.into_weight else 0.0)

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
        check_content(request, session.spec, self.half.architecture)
        (outcome,) = self.handle_together([(session, request)])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def handle_together(self, asked: Sequence[tuple[Session, Request]]) -> list[Outcome]:
        """Answer one request each of several sessions, in one pass as far as that goes.

        Their contents have been checked, their turns have not. What is refused is refused before
        the pass, which is then the same as without it.
        """
        outcomes: dict[int, Outcome] = {}
        joining: dict[int, Part] = {}
        writing: dict[int, WritingPart] = {}
        for index, (session, request) in enumerate(asked):
            try:
                if (repeated := session.repeated(request)) is not None:
                    outcomes[index] = repeated
                    continue
                check_turn(request, session)
                if isinstance(request, Forward):
                    session.settle(request.earlier_squared_norm)
                if isinstance(request, Settle):
                    outcomes[index] = self._settled(session, request)
                elif isinstance(request, Extend):
                    assert isinstance(session, WritingSession)
                    check_follows(request, session, self.half.architecture)
                    writing[index] = WritingPart(session=session, request=request)
                elif isinstance(request, Forward) and request.labels is not None:
                    joining[index] = Part(session=session, request=request)
                else:
                    outcomes[index] = self._u_shaped.run(session, request)
            except Exception as error:
                outcomes[index] = error
        groups: dict[Group | None, list[int]] = {}
        for index, part in joining.items():
            own = group_of(part.request, part.session.spec, self.half.architecture.steady_length)
            groups.setdefault(own, []).append(index)
        for group, indices in groups.items():
            parts = [joining[index] for index in indices]
            run = self._run_each if group is None else self._run_batched
            outcomes.update(zip(indices, run(parts), strict=True))
        written = write_together(self.half, self._bank, list(writing.values()))
        outcomes.update(zip(writing, written, strict=True))
        return [outcomes[index] for index in range(len(asked))]

    def _starting_points(
        self, spec: SessionSpec, span: Span, updates: Mapping[str, LowRank]
    ) -> dict[str, StartingPoint]:
        return starting_points(
            [weight for weight in self._weights if weight.block in span],
            updates,
            spec.ranks,
            start=spec.start,
            scaling=spec.scaling,
            seed=spec.seed,
            dtype=self.half.matrix_dtype,
        )

    def _run_batched(self, parts: Sequence[Part]) -> list[Outcome]:
        """One pass for all; should it fail for all, one for each, and one at most fails again."""
        if len(parts) > 1 and self._can_join:
            try:
                results = run_pass(self.half, self._bank, parts)
            except NotRowwiseError:
                self._can_join = False
            except Exception:
                logger.warning("%s requests could not run together", len(parts), exc_info=True)
            else:
                return [
                    self._complete(part, result)
                    for part, result in zip(parts, results, strict=True)
                ]
        return self._run_each(parts)

    def _run_each(self, parts: Sequence[Part]) -> list[Outcome]:
        return [self._run_one(part) for part in parts]

    def _run_one(self, part: Part) -> Outcome:
        try:
            is_probe = part.request.probe and part.request.train
            with probing_above_cut(self.half, part.session, is_probe=is_probe) as scores:
                (result,) = run_pass(self.half, self._bank, [part])
        except Exception as error:
            part.session.forget_step()
            return error
        return self._complete(part, result, scores)

    def _settled(self, session: Session, request: Settle) -> Reply:
        """Take a session's last step."""
        session.settle(request.squared_norm)
        reply = Settled(step=request.step)
        session.remember(request, reply)
        return reply

    def _complete(
        self, part: Part, result: PassResult, scores: Mapping[str, float] | None = None
    ) -> Outcome:
        """Count a pass in for one of its sessions, unless something of it is not finite."""
        session, request = part.session, part.request
        try:
            loss_sum = finite(result.loss_sum, "loss")
            session.start(request)
            if request.train:
                check_gradients(session, result.gradient, scores or {})
            reply = Loss(
                step=request.step,
                loss_sum=loss_sum,
                num_tokens=result.num_tokens,
                gradient=result.gradient,
                squared_norm=session.finish_micro_batch(),
                micro_batch=request.micro_batch,
            )
        except Exception as error:
            session.forget_step()
            return error
        session.importance.update(scores or {})
        session.remember(request, reply)
        return reply


def _trainable(point: StartingPoint, device: torch.device) -> Trainable:
    """Factors of which a row is one direction in memory, as stacks of them are laid out."""
    b = point.trainable_b.to(device).T.contiguous().T
    return Trainable(b=torch.nn.Parameter(b), a=torch.nn.Parameter(point.trainable_a.to(device)))
