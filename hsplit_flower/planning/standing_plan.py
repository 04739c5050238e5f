"""A plan that was made, and what it was made from: what decides whether it still stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..types import DeviceProfile, Plan


@dataclass(frozen=True, kw_only=True)
class StandingPlan:
    """The plan that the next round goes by, unless there is reason for another.

    Attributes
    ----------
    plan
        Cuts and ranks.
    importance
        ``I*``: the scores that it was made from; none where none were known.
    profiles
        What the clients had, corrections counted in.
    num_rounds
        For how many rounds it has stood.
    """

    plan: Plan
    importance: Mapping[str, float] = field(default_factory=dict)
    profiles: Mapping[int, DeviceProfile] = field(default_factory=dict)
    num_rounds: int = 0
