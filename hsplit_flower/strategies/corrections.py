"""How far a client needs more than was predicted, learnt from the rounds in which it ran out."""

from collections.abc import Mapping
from dataclasses import replace

from ..errors import OutOfBudgetError
from ..types import DeviceProfile

# A client that is stopped tells only that it needs more than it held. Each time it is planned lower
# by this much at least, so that it comes to rest after a few rounds.
LEAST_STEP = 1.1


class Corrections:
    """A factor for every client, 1 or more, by which its memory is divided in planning."""

    def __init__(self) -> None:
        self._factors: dict[int, float] = {}

    def of(self, client: int) -> float:
        """The factor of one client."""
        return self._factors.get(client, 1.0)

    def learn(self, client: int, error: OutOfBudgetError) -> float:
        """Correct a client's prediction by what it ran out at; gives the new factor.

        It grows to ``needed / predicted``, where what was needed is at least the budget, and in any
        case to `LEAST_STEP` times what it was.
        """
        needed_bytes = max(error.measured_bytes, error.budget_bytes)
        ratio = needed_bytes / error.predicted_bytes if error.predicted_bytes else 1.0
        self._factors[client] = max(ratio, LEAST_STEP * self.of(client))
        return self._factors[client]

    def applied(self, profiles: Mapping[int, DeviceProfile]) -> dict[int, DeviceProfile]:
        """The profiles to plan with: predictions stay as they are, budgets shrink instead."""
        return {
            client: replace(profile, memory_bytes=profile.memory_bytes / self.of(client))
            for client, profile in profiles.items()
        }
