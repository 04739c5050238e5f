"""How far a client needs more than was predicted, learnt from the rounds in which it ran out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..errors import OutOfBudgetError
from ..types import DeviceProfile

# A client that is stopped tells only that it needs more than it held. Each time it is planned lower
# by this much at least, so that it comes to rest after a few rounds.
LEAST_STEP = 1.1
# A client whose peak is below this share of its prediction shows that the prediction holds.
WELL_INSIDE = 0.95
# So many rounds in a row must show it; twice as many after each failure more.
FIRST_PATIENCE = 2


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What one client's failures have taught.

    Attributes
    ----------
    factor
        Its memory is divided by this in planning; 1 or more.
    num_failures
        How often it was stopped in this run.
    num_inside
        Rounds in a row, since then, in which it stayed well inside its prediction.
    """

    factor: float = 1.0
    num_failures: int = 0
    num_inside: int = 0

    @property
    def patience(self) -> int:
        """Rounds well inside after which the correction is taken back.

        Also those in which a step of `LEAST_STEP` fades, while the client is left out for it.
        """
        return FIRST_PATIENCE << max(0, self.num_failures - 1)


@dataclass(frozen=True, kw_only=True)
class MemoryCorrections:
    """A factor for every client, 1 or more, by which its memory is divided in planning."""

    by_client: Mapping[int, Correction] = field(default_factory=dict)

    def of(self, client: int) -> float:
        """The factor of one client."""
        return self._at(client).factor

    def learned(self, client: int, error: OutOfBudgetError) -> "MemoryCorrections":
        """After a client's prediction proved too low by what it ran out at.

        Its factor grows to ``needed / predicted``, where what was needed is at least the budget,
        and in any case to `LEAST_STEP` times what it was.
        """
        before = self._at(client)
        needed_bytes = max(error.measured_bytes, error.budget_bytes)
        ratio = needed_bytes / error.predicted_bytes if error.predicted_bytes else 1.0
        return self._with(
            client,
            Correction(
                factor=max(ratio, LEAST_STEP * before.factor), num_failures=before.num_failures + 1
            ),
        )

    def relaxed(
        self, client: int, *, predicted_bytes: float, peak_bytes: float
    ) -> "MemoryCorrections":
        """After a round that a client has finished; it may be free again.

        A correction is taken back after `Correction.patience` rounds in a row well inside the
        prediction. Who always needs more than was predicted never is well inside, and stays
        corrected; who fails again at a deeper cut waits twice as long each time, so that failures
        become as rare as the logarithm of the rounds.
        """
        before = self._at(client)
        if before.factor == 1.0:
            return self
        is_inside = 0.0 < peak_bytes < WELL_INSIDE * predicted_bytes
        now = replace(before, num_inside=before.num_inside + 1 if is_inside else 0)
        is_free = now.num_inside >= now.patience
        return self._with(client, replace(now, factor=1.0, num_inside=0) if is_free else now)

    def faded(self, clients: Iterable[int]) -> "MemoryCorrections":
        """After a round in which these were left out for their correction alone.

        Nothing is heard of them that could take it back, so it fades until they are tried again: a
        step of `LEAST_STEP` in `Correction.patience` rounds. Who then fails once more waits longer.
        """
        after = self
        for client in clients:
            before = self._at(client)
            factor = before.factor / LEAST_STEP ** (1.0 / before.patience)
            after = after._with(client, replace(before, factor=max(1.0, factor)))
        return after

    def factors(self) -> dict[int, float]:
        """The factor of every client that has been corrected."""
        return {client: one.factor for client, one in self.by_client.items()}

    def applied(self, profiles: Mapping[int, DeviceProfile]) -> dict[int, DeviceProfile]:
        """The profiles to plan with: predictions stay as they are, budgets shrink instead."""
        return {
            client: replace(profile, memory_bytes=profile.memory_bytes / self.of(client))
            for client, profile in profiles.items()
        }

    def _at(self, client: int) -> Correction:
        return self.by_client.get(client, Correction())

    def _with(self, client: int, correction: Correction) -> "MemoryCorrections":
        return MemoryCorrections(by_client={**self.by_client, client: correction})
