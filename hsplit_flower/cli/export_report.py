"""What an export has made of a run, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Described:
    """An adapter.

    ``factors_bytes`` are those of its factors in float32, each weight with its own rank;
    ``energy_share`` is of all that was learnt; ``perplexity`` None was not measured.
    """

    ranks: Mapping[str, int]
    factors_bytes: int
    energy_share: float
    perplexity: float | None = None


@dataclass(frozen=True, kw_only=True)
class Written:
    """A folder that was written: the bytes of its weights, and of which type they are.

    ``perplexity`` is that of the numbers as they are written; None was not measured.
    """

    folder: Path
    num_bytes: int
    dtype: str
    perplexity: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What perplexity was measured on, and that of the base alone."""

    dataset: str
    num_examples: int
    base_perplexity: float


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The adapter that the run sent, all that it learnt, and what was made of it."""

    sent: Described
    learnt: Described
    exported: Described
    adapter: Written | None
    merged: Written | None
    measured: Measured | None
