"""A run as its folder tells it: settings, lines of metrics, plan."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .metrics import (
    METRICS_FILE,
    AnyLine,
    ClientEvaluationLine,
    PersonalisationLine,
    ServerEvaluationLine,
    TrainingLine,
    read_line,
)
from .plan import PLAN_FILE, PlanRecord
from .record import check_version

VOID_FILE = "metrics-void.jsonl"
"""What the metrics of a run become of which no round was completed."""
CONFIG_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the folder of a run holds.

    Attributes
    ----------
    name
        Of the folder.
    config
        Its settings, by group and key.
    lines
        Of metrics, in their order.
    plan
        The last one; None before the first.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[AnyLine, ...] = ()
    plan: PlanRecord | None = None

    @cached_property
    def training(self) -> list[TrainingLine]:
        """Its rounds of training."""
        return [line for line in self.lines if isinstance(line, TrainingLine)]

    @cached_property
    def client_evaluations(self) -> list[ClientEvaluationLine]:
        """What clients have evaluated."""
        return [line for line in self.lines if isinstance(line, ClientEvaluationLine)]

    @cached_property
    def server_evaluations(self) -> list[ServerEvaluationLine]:
        """What the server has evaluated."""
        return [line for line in self.lines if isinstance(line, ServerEvaluationLine)]

    @property
    def personalisation(self) -> PersonalisationLine | None:
        """What clients' own adapters gained, the last time that there were any."""
        lines = [line for line in self.lines if isinstance(line, PersonalisationLine)]
        return lines[-1] if lines else None

    @property
    def names(self) -> list[str]:
        """All clients that any line or the plan names, in the order in which they appear."""
        places: list[TrainingLine | ClientEvaluationLine | PlanRecord]
        places = [*self.training, *self.client_evaluations, *([self.plan] if self.plan else [])]
        found = [name for place in places for name in (*place.clients, *place.left_out)]
        return list(dict.fromkeys(found))


def read_run(folder: str | Path) -> Run:
    """What the folder of a run holds; nothing where it has no metrics yet.

    A last line of metrics that was cut off is left out. The metrics of a run of which no round was
    completed have another name, under which they are read.

    Raises
    ------
    ConfigError
        If there is no such folder, or a file of it is not what this version writes.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ConfigError(f"{path} is no folder: that of a run is wanted, as a run leaves it")
    config, plan = _json(path / CONFIG_FILE), None
    if planned := _json(path / PLAN_FILE):
        check_version(planned, str(path / PLAN_FILE))
        plan = PlanRecord.read(planned, str(path / PLAN_FILE))
    metrics = path / METRICS_FILE
    lines = read_lines(metrics if metrics.exists() else path / VOID_FILE)
    return Run(name=path.resolve().name, config=config, lines=tuple(lines), plan=plan)


def read_lines(path: Path) -> Iterator[AnyLine]:
    """The lines of a file of metrics, none where there is none; one that was cut off is left out.

    Raises
    ------
    ConfigError
        Naming the line that is none.
    """
    if not path.exists():
        return
    # Bytes that are no text make a line that is no JSON.
    texts = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    for number, text in enumerate(texts, start=1):
        where = f"{path}, line {number}"
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where} is no JSON ({error}): {text[:80]}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{where} is no line of metrics: {text[:80]}")
        yield read_line(values, where)


def _json(path: Path) -> dict[str, Any]:
    """The mapping that a file holds; an empty one where there is none."""
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, a mapping is wanted")
    return values
