"""What each client was, took and gave over a whole run."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ..names import in_order
from .client_records import EvaluatedClient, Measured, TrainedClient
from .known_sum import KnownSum
from .metrics import ClientEvaluationLine, TrainingLine
from .plan import PlannedClient
from .run import Run


@dataclass(frozen=True, kw_only=True)
class Absence:
    """In which rounds a client did not count, for one reason."""

    reason: str
    rounds: tuple[int, ...]

    @property
    def rounds_text(self) -> str:
        """``1-3, 7``."""
        return rounds_text(self.rounds)


@dataclass(frozen=True, kw_only=True)
class ClientTotals:
    """One client over a run.

    Attributes
    ----------
    name, planned
        What it is called, and its part of the last plan, where it has one.
    trained, evaluated
        Its rounds, by their number, those that do not count too.
    absences
        When it did not count, and why: it had no part, or did not finish.
    """

    name: str
    planned: PlannedClient | None = None
    trained: dict[int, TrainedClient] = field(default_factory=dict)
    evaluated: dict[int, EvaluatedClient] = field(default_factory=dict)
    absences: tuple[Absence, ...] = ()

    @property
    def measured(self) -> list[Measured]:
        """All that was measured of it."""
        return [*self.trained.values(), *self.evaluated.values()]

    @cached_property
    def finished(self) -> list[TrainedClient]:
        """Its rounds of training that count, in their order."""
        return [self.trained[number] for number in sorted(self.trained) if self._counts(number)]

    @cached_property
    def evaluations(self) -> list[EvaluatedClient]:
        """Its evaluations that count, in their order."""
        told = [self.evaluated[number] for number in sorted(self.evaluated)]
        return [one for one in told if one.perplexity is not None]

    @property
    def last(self) -> TrainedClient | None:
        """Its last round of training, whatever came of it."""
        return self.trained[max(self.trained)] if self.trained else None

    @property
    def peak_bytes(self) -> float:
        """The most that was measured; 0 where nothing was."""
        return max((one.peak_bytes for one in self.measured), default=0.0)

    def total(self, name: str) -> KnownSum:
        """The sum of a field of what was measured, over all rounds."""
        return KnownSum.of(getattr(one, name) for one in self.measured)

    @property
    def sent_bytes(self) -> KnownSum:
        """All that left it: to the worker, and to the server."""
        return self.total("worker_up_bytes") + self.total("flower_up_bytes")

    @property
    def received_bytes(self) -> KnownSum:
        """All that came to it."""
        return self.total("worker_down_bytes") + self.total("flower_down_bytes")

    def _counts(self, number: int) -> bool:
        return self.trained[number].counts


def client_totals(run: Run) -> list[ClientTotals]:
    """Every client that a run names, in the order of their names."""
    return [_totals(run, name) for name in in_order(run.names)]


def _totals(run: Run, name: str) -> ClientTotals:
    trained, evaluated = run.training, run.client_evaluations
    return ClientTotals(
        name=name,
        planned=run.plan.clients.get(name) if run.plan else None,
        trained={line.server_round: line.clients[name] for line in trained if name in line.clients},
        evaluated={
            line.server_round: line.clients[name] for line in evaluated if name in line.clients
        },
        absences=_absences(run, name),
    )


def _absences(run: Run, name: str) -> tuple[Absence, ...]:
    rounds: dict[str, list[int]] = {}
    lines: list[TrainingLine | ClientEvaluationLine] = [*run.training, *run.client_evaluations]
    for line in lines:
        part, one = line.clients.get(name), line.left_out.get(name)
        for reason in (part and part.dropped, one and one.reason):
            if reason:
                rounds.setdefault(reason, []).append(line.server_round)
    return tuple(Absence(reason=reason, rounds=tuple(own)) for reason, own in rounds.items())


def rounds_text(numbers: Iterable[int]) -> str:
    """``1-3, 7``: rounds that follow each other as a span."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
