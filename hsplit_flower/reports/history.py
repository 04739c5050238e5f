"""What a run's metrics say of it as a whole: rounds, clients, perplexities, why rounds failed."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

from .metrics import (
    METRICS_FILE,
    AnyLine,
    ClientEvaluationLine,
    ServerEvaluationLine,
    TrainingLine,
)
from .run import read_lines


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """What is known after some lines of metrics.

    Attributes
    ----------
    num_rounds, num_completed
        Of training; one is completed where enough clients finished it.
    last_completed
        The number of the last that was; 0 before.
    num_tokens
        Labelled ones that the rounds that count have learnt from, each as often as they did.
    num_clients
        The most that finished a round that counts.
    perplexities
        By the round after which the server measured them; 0 is before training.
    client_perplexities
        By the round after which clients measured them on examples of their own.
    best_round
        The completed round after which the perplexity was lowest; 0 where none was measured.
    reasons
        Why clients of the last round do not count, each once.
    """

    num_rounds: int = 0
    num_completed: int = 0
    last_completed: int = 0
    num_tokens: int = 0
    num_clients: int = 0
    perplexities: Mapping[int, float] = field(default_factory=dict)
    client_perplexities: Mapping[int, float] = field(default_factory=dict)
    best_round: int = 0
    reasons: tuple[str, ...] = ()

    @classmethod
    def of(cls, lines: Iterable[AnyLine]) -> "RunHistory":
        """What is known after all these lines."""
        return reduce(cls.after, lines, cls())

    @property
    def perplexity_before(self) -> float | None:
        """Before training, if it was measured."""
        return self.perplexities.get(0)

    @property
    def perplexity_after(self) -> float | None:
        """With what the last completed round made, if it was measured."""
        later = [number for number in self.perplexities if number >= self.last_completed]
        return self.perplexities[max(later)] if later and self.num_completed else None

    def after(self, line: AnyLine) -> "RunHistory":
        """What is known after one more line."""
        if isinstance(line, TrainingLine):
            return self._after_round(line)
        if isinstance(line, ServerEvaluationLine):
            return self._after_evaluation(line.server_round, line.perplexity)
        if isinstance(line, ClientEvaluationLine) and line.perplexity is not None:
            measured = {**self.client_perplexities, line.server_round: line.perplexity}
            return replace(self, client_perplexities=measured)
        return self

    def _after_evaluation(self, number: int, perplexity: float) -> "RunHistory":
        known = replace(self, perplexities={**self.perplexities, number: perplexity})
        best = self.perplexities.get(self.best_round, math.inf) if self.best_round else math.inf
        if number == self.last_completed != 0 and perplexity < best:
            return replace(known, best_round=number)
        return known

    def _after_round(self, line: TrainingLine) -> "RunHistory":
        reasons = [client.dropped for client in line.clients.values() if client.dropped]
        reasons += [one.reason for one in line.left_out.values()]
        known = replace(self, num_rounds=self.num_rounds + 1, reasons=tuple(dict.fromkeys(reasons)))
        if not line.completed:
            return known
        finished = [client for client in line.clients.values() if client.counts]
        return replace(
            known,
            num_completed=self.num_completed + 1,
            last_completed=line.server_round,
            num_tokens=self.num_tokens + sum(client.num_tokens or 0 for client in finished),
            num_clients=max(self.num_clients, len(finished)),
        )


def read_history(folder: str | Path) -> RunHistory:
    """The history that the folder of a run holds; an empty one where it has no metrics.

    Raises
    ------
    ConfigError
        If its metrics are none; a last line that was cut off is left out.
    """
    return RunHistory.of(read_lines(Path(folder) / METRICS_FILE))
