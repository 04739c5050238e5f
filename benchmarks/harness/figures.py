"""What a benchmark is and what it yields: plain values that know how to become JSON."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

Comparison = Literal["<", "<=", "==", ">=", ">"]

COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Target:
    """What a figure should be, written once beside the measurement: ``Target("<=", 1.15)``."""

    comparison: Comparison
    value: float

    def __post_init__(self) -> None:
        if self.comparison not in COMPARE:
            raise ValueError(f"a target compares by one of {[*COMPARE]}, got {self.comparison!r}")

    def __str__(self) -> str:
        return f"{self.comparison} {self.value:g}"

    def is_reached_by(self, value: float) -> bool:
        return COMPARE[self.comparison](value, self.value)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far apart the repetitions lay that a figure is the median (or mean) of."""

    minimum: float
    maximum: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of these repetitions."""
        return cls(minimum=min(values), maximum=max(values), repeats=len(values))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number, with what it should be where that was promised."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    spread: Spread | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"figure {self.name!r} is {self.value}: nothing was measured")

    @classmethod
    def of_repeats(
        cls, name: str, values: Sequence[float], unit: str, target: Target | None = None
    ) -> "Figure":
        """The median of several measurements of the same thing, with their spread."""
        spread = Spread.of(values)
        return cls(name=name, value=median(values), unit=unit, target=target, spread=spread)

    @classmethod
    def of_mean(
        cls, name: str, values: Sequence[float], unit: str, target: Target | None = None
    ) -> "Figure":
        """The mean of what several seeds gave, with their spread."""
        spread = Spread.of(values)
        return cls(name=name, value=fmean(values), unit=unit, target=target, spread=spread)

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.target.is_reached_by(self.value)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": None if self.target is None else asdict(self.target),
            "reached": self.reached,
            "spread": None if self.spread is None else asdict(self.spread),
        }


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Something worth keeping beside the figures: a table, a curve, a configuration. JSON-able."""

    name: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a benchmark is run with.

    ``quick`` asks for the smallest run that still measures; ``scratch`` is an empty folder that is
    removed afterwards; ``shared_data`` holds the data sets beside the project, if they are there.
    """

    quick: bool
    seeds: tuple[int, ...]
    scratch: Path
    shared_data: Path


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark: its name on the command line, what it answers, and how it measures.

    ``measure`` yields its figures as it gets them, so that the table grows while it runs.
    """

    name: str
    summary: str
    measure: Callable[[Settings], Iterable[Figure | Detail]]
    seeds: tuple[int, ...] = (0,)
