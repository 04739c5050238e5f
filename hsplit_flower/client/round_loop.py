"""The steps of one client in one round, whatever of the model it has and whatever it trains."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ..adapters import DropoutMasks, LowRank, squared_norm_of, take_step
from ..batches import Batch
from ..devices.memory_budget import MemoryMeter
from ..errors import NonFiniteError
from ..importance import check_finite, probing
from ..metrics import TokenLoss
from ..settings import SessionSpec
from ..splitting import Half
from ..transport.traffic import Traffic
from .step_log import OnStep, StepDone


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one client brings home from a round.

    ``first_loss`` and ``last_loss`` are those of the first and the last quarter of its steps, one
    step at least. ``num_batch_tokens`` are those of all steps' batches, padding included: what was
    computed. ``seconds`` are from the first step to the last, in which ``traffic`` was waited for;
    ``setup_seconds`` are before. ``weights`` are all parameters of its model, where these are
    trained.
    """

    loss: TokenLoss
    first_loss: TokenLoss = field(default_factory=TokenLoss)
    last_loss: TokenLoss = field(default_factory=TokenLoss)
    num_steps: int
    num_examples: int
    num_batch_tokens: int
    seconds: float
    setup_seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)
    peak_bytes: float = 0.0
    updates: Mapping[str, LowRank] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    importance: Mapping[str, float] = field(default_factory=dict)


class RoundLoop(ABC):
    """Steps on batches, within a memory budget, until something is not finite.

    A subclass sets up what is trained, and says what a step is.

    Parameters
    ----------
    half
        What the client has of the model.
    spec
        The recipe, and which round it is.
    meter
        Holds the round to a memory budget.
    """

    def __init__(self, half: Half, spec: SessionSpec, meter: MemoryMeter) -> None:
        self._half = half
        self._spec = spec
        self._masks = DropoutMasks(spec)
        self._meter = meter
        self._weights = half.architecture.weights_in(half.parts.span)
        self._on_step: OnStep | None = None
        self._optimizer: torch.optim.Optimizer | None = None

    @abstractmethod
    def _run(self, number: int, batches: Sequence[Batch], *, is_probe: bool) -> TokenLoss:
        """The loss of a step; where gradients are on, they are there afterwards."""

    @property
    @abstractmethod
    def _parameters(self) -> Sequence[nn.Parameter]:
        """All that is trained."""

    @abstractmethod
    def _with_trained(self, outcome: Outcome) -> Outcome:
        """The same with what was trained."""

    @abstractmethod
    def release_half(self) -> bool:
        """Leave the model to others, and say whether it is what it was before this round."""

    def train(
        self, batches: Iterable[Batch], *, probe: bool, on_step: OnStep | None = None
    ) -> Outcome:
        """One step a batch, or as many batches as accumulate; the first one scores if asked.

        ``on_step`` is told of each.

        Raises
        ------
        NonFiniteError
            If a loss or gradient is not finite: this client's round is void then.
        TransportError
            If the worker cannot be reached, or refuses.
        OutOfBudgetError
            If the round needs more memory than the meter allows.
        """
        self._half.model.train()
        self._on_step = on_step
        outcome = self._stepped(batches, probe=probe)
        check_finite(outcome.importance)
        return self._with_trained(outcome)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Outcome:
        """The loss of the global model on this client's own examples."""
        self._half.model.eval()
        return self._stepped(batches, probe=False)

    def _stepped(self, batches: Iterable[Batch], *, probe: bool) -> Outcome:
        started = began = time.perf_counter()
        num_steps, num_examples, num_batch_tokens = 0, 0, 0
        losses: list[TokenLoss] = []
        importance: dict[str, float] = {}
        size = self._spec.gradient_accumulation_steps if torch.is_grad_enabled() else 1
        for num_steps, own in enumerate(_in_groups(batches, size), start=1):
            shapes = [batch.shape for batch in own]
            with ExitStack() as stack:
                stack.enter_context(self._meter.step(max(shapes, key=math.prod)))
                is_probe = probe and num_steps == 1
                if is_probe:
                    # Those that may be adapted, with whatever rank in this round.
                    names = [one.name for one in self._weights if one.name in self._spec.ranks]
                    importance = stack.enter_context(probing(self._half.model, names))
                losses.append(self._run(num_steps, own, is_probe=is_probe))
                if torch.is_grad_enabled():
                    self._apply(num_steps)
            step_tokens = sum(map(math.prod, shapes))
            self._tell(num_steps, losses[-1], step_tokens, time.perf_counter() - began)
            began = time.perf_counter()
            num_examples += sum(batch.num_examples for batch in own)
            num_batch_tokens += step_tokens
        quarter = -(-num_steps // 4)
        return Outcome(
            loss=sum(losses, TokenLoss()),
            first_loss=sum(losses[:quarter], TokenLoss()),
            last_loss=sum(losses[num_steps - quarter :], TokenLoss()),
            num_steps=num_steps,
            num_examples=num_examples,
            num_batch_tokens=num_batch_tokens,
            seconds=time.perf_counter() - started,
            traffic=self._traffic,
            peak_bytes=self._meter.peak_bytes,
            importance=importance,
        )

    def _tell(self, number: int, loss: TokenLoss, num_tokens: int, seconds: float) -> None:
        if self._on_step is None:
            return
        done = StepDone(
            server_round=self._spec.server_round,
            number=number,
            num_steps=self._spec.num_steps,
            loss=loss,
            learning_rate=self._spec.rate_of_step(number),
            num_tokens=num_tokens,
            seconds=seconds,
        )
        self._on_step(done)

    @property
    def _traffic(self) -> Traffic:
        """What the steps have sent and waited for; nothing where the client has it all."""
        return Traffic()

    def _apply(self, number: int) -> None:
        gradients = [one.grad for one in self._parameters if one.grad is not None]
        # One number for all of them: a device is waited for once, not once a factor.
        if gradients and not bool(get_total_norm(gradients, math.inf).isfinite()):
            raise NonFiniteError("a gradient on the client is not finite: lower the learning rate")
        squared_norm = 0.0
        if self._spec.max_gradient_norm:
            squared_norm = self._whole_squared_norm(squared_norm_of(self._optimizer))
        if self._optimizer is not None:
            take_step(self._optimizer, self._spec, number, squared_norm=squared_norm)

    def _whole_squared_norm(self, squared_norm: float) -> float:
        """That of the gradients of the whole model, from that of those here."""
        return squared_norm


def _in_groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """So many at a time, of which the last ones may be fewer."""
    rest = iter(batches)
    while group := list(islice(rest, size)):
        yield group
