"""What is asked of a plan, and what a round goes by."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..planning import Decision, StandingPlan
from ..settings import PlanSettings
from ..types import DeviceProfile, Plan, Shortfall
from .memory_corrections import MemoryCorrections
from .state import RunState

NOTHING_PLANNED = Decision(replan=False, reason="nothing is planned")


@dataclass(frozen=True, kw_only=True)
class PlannedRound:
    """What a round goes by, and what the next one must know of it.

    Attributes
    ----------
    plan
        Cuts and ranks; nobody's where nobody can be planned for.
    standing
        The plan that the next round is measured against.
    decision, drift
        Whether it was made anew and why, and how far importance had moved.
    left_out
        Who does not hold the smallest cut.
    corrections
        Those of before, faded for who was left out for them alone.
    """

    plan: Plan
    standing: StandingPlan | None
    decision: Decision
    drift: float
    left_out: Mapping[int, Shortfall]
    corrections: MemoryCorrections


@dataclass(frozen=True, kw_only=True)
class PlanQuestion:
    """For whom a plan is made, and from what."""

    state: RunState
    present: Mapping[int, DeviceProfile]
    left_out: Mapping[int, Shortfall]
    worker: DeviceProfile
    settings: PlanSettings

    def answered(
        self, plan: Plan, standing: StandingPlan | None, decision: Decision, drift: float = 0.0
    ) -> PlannedRound:
        """The answer, with what is known of who is left out."""
        corrections = self.state.corrections.faded(
            node for node, one in self.left_out.items() if one.budget_bytes >= one.needed_bytes
        )
        return PlannedRound(
            plan=plan,
            standing=standing,
            decision=decision,
            drift=drift,
            left_out=self.left_out,
            corrections=corrections,
        )

    def by_nobody(self, decision: Decision) -> PlannedRound:
        """The answer where nobody can take part; the plan of before stands for the next round."""
        nobody = Plan(clients={}, left_out=self.left_out)
        return self.answered(nobody, self.state.standing, decision)
