"""What a run's metrics say of it as a whole: rounds, clients, perplexities, why rounds failed."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError

METRICS_FILE = "metrics.jsonl"
VOID_FILE = "metrics-void.jsonl"
"""What the metrics of a run become of which no round was completed."""


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """What is known after some lines of metrics.

    Attributes
    ----------
    num_rounds, num_completed
        Of training; one is completed where enough clients finished it.
    last_completed
        The number of the last that was; 0 before.
    num_clients
        The most that finished a round that counts.
    perplexities
        By the round after which the server measured them; 0 is before training.
    best_round
        The completed round after which the perplexity was lowest; 0 where none was measured.
    reasons
        Why clients of the last round do not count, each once.
    """

    num_rounds: int = 0
    num_completed: int = 0
    last_completed: int = 0
    num_clients: int = 0
    perplexities: Mapping[int, float] = field(default_factory=dict)
    best_round: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def perplexity_before(self) -> float | None:
        """Before training, if it was measured."""
        return self.perplexities.get(0)

    @property
    def perplexity_after(self) -> float | None:
        """With what the last completed round made, if it was measured."""
        later = [number for number in self.perplexities if number >= self.last_completed]
        return self.perplexities[max(later)] if later and self.num_completed else None

    def after(self, line: Mapping[str, Any]) -> "RunHistory":
        """What is known after one more line."""
        number = int(line["server-round"])
        if "clients" in line:
            return self._after_round(number, line)
        if "perplexity" in line:
            return self._after_evaluation(number, float(line["perplexity"]))
        return self

    def _after_evaluation(self, number: int, perplexity: float) -> "RunHistory":
        known = replace(self, perplexities={**self.perplexities, number: perplexity})
        best = self.perplexities.get(self.best_round, math.inf) if self.best_round else math.inf
        if number == self.last_completed != 0 and perplexity < best:
            return replace(known, best_round=number)
        return known

    def _after_round(self, number: int, line: Mapping[str, Any]) -> "RunHistory":
        dropped = [client["dropped"] for client in line["clients"].values()]
        reasons = tuple(dict.fromkeys(reason for reason in dropped if reason))
        known = replace(self, num_rounds=self.num_rounds + 1, reasons=reasons)
        if not line["completed"]:
            return known
        return replace(
            known,
            num_completed=self.num_completed + 1,
            last_completed=number,
            num_clients=max(self.num_clients, dropped.count(None)),
        )


def read_history(folder: str | Path) -> RunHistory:
    """The history that the folder of a run holds; an empty one where it has no metrics.

    Raises
    ------
    ConfigError
        If its metrics are none; a last line that was cut off is left out.
    """
    path, history = Path(folder) / METRICS_FILE, RunHistory()
    if not path.exists():
        return history
    # Bytes that are no text make a line that is no JSON.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line in lines[:-1]:
        try:
            history = history.after(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ConfigError(
                f"{path} holds a line that is none of a run's metrics ({error!r}): {line[:80]}"
            ) from error
    return history
