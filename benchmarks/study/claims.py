"""HSplitLoRA's claims, as they were published, and what the curves say of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.study.arms import COMPONENTS, HETEROGENEOUS, HOMOGENEOUS, ROWS
from benchmarks.study.fleet import GPT2, LLAMA
from benchmarks.study.summary import Line, ratios, rounds_to, seconds_to

OURS: Final = "hsplit-lora"
REPRODUCED, REFUTED, OPEN, NOT_RUN = "reproduced", "refuted", "open", "not run"
# Figures of arXiv 2505.02795: how many times as long the others take to converge.
SPEED_UPS: Final[Mapping[str, Mapping[str, Mapping[str, float]]]] = {
    HOMOGENEOUS: {
        LLAMA: {"full-tuning": 1.4, "centralised-lora": 1.3, "het-lora": 1.6, "split-lora": 1.5},
        GPT2: {"full-tuning": 1.5, "centralised-lora": 1.3, "het-lora": 1.7, "split-lora": 1.5},
    },
    HETEROGENEOUS: {LLAMA: {"het-lora": 1.7}, GPT2: {"het-lora": 1.7}},
}
COMPARED: Final = ("full-tuning", "centralised-lora", "het-lora", "split-lora")
GAPS: Final = {"het-lora": 0.47, "split-lora": 0.15}
RISES: Final = {"het-lora": "0.38", "split-lora": "0.10 to 0.11"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim, what was published of it, and what each seed gave.

    ``values`` are ratios that the claim has above 1, or differences that it has above 0.
    """

    claim: str
    published: str
    values: Sequence[float]
    holds_above: float = 1.0

    @property
    def verdict(self) -> str:
        """Of its direction: in all seeds as claimed, in all seeds the other way, or neither."""
        if not self.values:
            return NOT_RUN
        if all(value > self.holds_above for value in self.values):
            return REPRODUCED
        return REFUTED if all(value < self.holds_above for value in self.values) else OPEN


def findings(model: str, lines: Mapping[str, Mapping[str, Line]]) -> Iterator[Finding]:
    """Of one base, which stands for this model; lines by fleet and method, with room for all."""
    for fleet, published in SPEED_UPS.items():
        for method, factor in published[model].items():
            yield from _speed_ups(lines[fleet], fleet, method, factor)
    for fleet in (HOMOGENEOUS, HETEROGENEOUS):
        for method in (*COMPARED, *COMPONENTS):
            yield _ends_lower(lines[fleet], fleet, method, model)
    for method, rise in RISES.items():
        yield _rise(lines, method, rise)


def _speed_ups(
    lines: Mapping[str, Line], fleet: str, method: str, factor: float
) -> Iterator[Finding]:
    for what, measure in (("rounds", rounds_to), ("simulated seconds", seconds_to)):
        values: list[float] = []
        if OURS in lines and method in lines:
            values = ratios(measure(lines[method], lines), measure(lines[OURS], lines))
        yield Finding(
            claim=f"{fleet}: {ROWS[method].title} takes longer, in {what}",
            published=f"{factor:g} times",
            values=values,
        )


def _ends_lower(lines: Mapping[str, Line], fleet: str, method: str, model: str) -> Finding:
    values: list[float] = []
    if OURS in lines and method in lines:
        ours, theirs = (_final(lines[name]) for name in (OURS, method))
        values = ratios(theirs, ours)
    gap = GAPS.get(method) if (fleet, model) == (HETEROGENEOUS, LLAMA) else None
    published = "no figure known" if method in COMPONENTS else "higher"
    return Finding(
        claim=f"{fleet}: {ROWS[method].title} ends with a higher perplexity",
        published=published if gap is None else f"{gap:g} higher",
        values=values,
    )


def _rise(lines: Mapping[str, Mapping[str, Line]], method: str, published: str) -> Finding:
    """Whether unequal devices cost a method more perplexity than they cost HSplitLoRA."""
    values: list[float] = []
    if all(name in lines[fleet] for name in (OURS, method) for fleet in lines):
        theirs, ours = (
            {
                seed: _final(lines[HETEROGENEOUS][name])[seed] - before
                for seed, before in _final(lines[HOMOGENEOUS][name]).items()
            }
            for name in (method, OURS)
        )
        values = [theirs[seed] - ours[seed] for seed in theirs.keys() & ours.keys()]
    return Finding(
        claim=f"unequal devices raise {ROWS[method].title}'s perplexity by more than HSplitLoRA's",
        published=f"raised by {published}",
        values=values,
        holds_above=0.0,
    )


def _final(line: Line) -> dict[int, float]:
    return dict(zip(line.seeds, line.final, strict=True))
