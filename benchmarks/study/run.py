"""The study's trials: which there are, in the order in which they matter, and what came of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.study.arms import (
    ENFORCED,
    HETEROGENEOUS,
    HOMOGENEOUS,
    ROOM,
    ROWS,
    as_planned,
    rates_of,
    with_room,
)
from benchmarks.study.budgets import Part, parts
from benchmarks.study.fleet import MEMORY_GB, STANDS_FOR, costs_of
from benchmarks.study.tuning import best_rate, climb, last_of
from benchmarks.trial import Curve, Setting

Look = Callable[[Iterable[Setting]], Mapping[Setting, Curve]]
"""Gives the curves of trials: of all of them, run where they are missing, or of those kept."""
Tuned = Mapping[str, Mapping[float, float]]

PARTS: Final = (
    (ROOM, HETEROGENEOUS),
    (ROOM, HOMOGENEOUS),
    (ENFORCED, HETEROGENEOUS),
    (ENFORCED, HOMOGENEOUS),
)
"""Worlds and fleets in the order in which they run."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One base's part of the study: what all its trials have in common, and its seeds."""

    base: str
    plain: Setting
    seeds: tuple[int, ...]
    methods: tuple[str, ...] = tuple(ROWS)
    parts: tuple[tuple[str, str], ...] = PARTS

    def tuned(self, look: Look) -> dict[str, dict[float, float]]:
        """Perplexity at the rates that were tried, by method; on unequal devices, first seed."""

        def measure(wanted: Mapping[str, set[float]]) -> dict[str, dict[float, float]]:
            asked = {
                (name, rate): self._with_room(name, HETEROGENEOUS, rate, self.seeds[0])
                for name, rates in wanted.items()
                for rate in sorted(rates)
            }
            done = look(asked.values())
            found: dict[str, dict[float, float]] = {}
            for (name, rate), setting in asked.items():
                if setting in done:
                    found.setdefault(name, {})[rate] = last_of(done[setting])
            return found

        return climb({name: rates_of(ROWS[name]) for name in self.methods}, measure)

    def curves(
        self, look: Look, tuned: Tuned, world: str, fleet: str
    ) -> dict[str, dict[int, Curve]]:
        """In one world, on one fleet, by method and seed; without what was not run."""
        asked = dict(self.asked(tuned, world, fleet))
        done = look(asked.values())
        found: dict[str, dict[int, Curve]] = {}
        for (name, seed), setting in asked.items():
            if setting in done:
                found.setdefault(name, {})[seed] = done[setting]
        return found

    def taking_part(self, world: str, fleet: str) -> dict[str, dict[int, Part]] | None:
        """Who can, by method and client, with what; None where everybody has room."""
        if world == ROOM:
            return None
        costs = costs_of(STANDS_FOR[self.base])
        return {name: parts(costs, ROWS[name], MEMORY_GB[fleet]) for name in self.methods}

    def asked(
        self, tuned: Tuned, world: str, fleet: str
    ) -> Iterator[tuple[tuple[str, int], Setting]]:
        """The trials of one world on one fleet, by method and seed, at each method's best rate."""
        enforced = self.taking_part(world, fleet)
        for seed in self.seeds:
            for name in self.methods:
                if name not in tuned:
                    continue
                rate = best_rate(tuned[name])
                if enforced is None:
                    yield (name, seed), self._with_room(name, fleet, rate, seed)
                elif enforced[name]:
                    ranks = {client: part.rank for client, part in enforced[name].items()}
                    setting = as_planned(self.plain, ROWS[name], ranks, rate=rate, seed=seed)
                    yield (name, seed), setting

    def _with_room(self, name: str, fleet: str, rate: float, seed: int) -> Setting:
        return with_room(self.plain, ROWS[name], fleet, rate=rate, seed=seed)
