"""What happens to simulated devices while a run goes on: they are away, or their memory changes.

Everything follows from the seed, the device's number and the round, so that a run can be repeated.
"""

import random
from dataclasses import dataclass

from ..errors import ConfigError

# No device's memory changes by more than this while a run goes on: a mistake in the unit.
MOST_FACTOR = 1e3


@dataclass(frozen=True, kw_only=True)
class BudgetChange:
    """From a round on, a device has this many times the memory that the fleet gives it.

    That is from `1 / MOST_FACTOR` to `MOST_FACTOR`.
    """

    device: int
    first_round: int
    factor: float

    def __post_init__(self) -> None:
        wrong = []
        if self.device < 0:
            wrong.append(f"device must be 0 or more, got {self.device}")
        if self.first_round < 1:
            wrong.append(f"first_round must be 1 or more, got {self.first_round}")
        if not 1.0 / MOST_FACTOR <= self.factor <= MOST_FACTOR:
            wrong.append(
                f"factor must be from {1.0 / MOST_FACTOR:g} to {MOST_FACTOR:g}, got {self.factor:g}"
            )
        if wrong:
            raise ConfigError("a budget change: " + "; ".join(wrong))


@dataclass(frozen=True, kw_only=True)
class Disturbances:
    """What happens to the devices of a fleet; by default what the fleet itself says.

    Attributes
    ----------
    unavailable
        Probability that a device is away in a round: one for all, or one for each device. It comes
        on top of the device's own, for another reason: whoever has either is away.
    budget_changes
        When whose memory changes; the last one that has begun counts.
    seed
        Of who is away when.
    """

    unavailable: float | tuple[float, ...] = 0.0
    budget_changes: tuple[BudgetChange, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        listed = self.unavailable if isinstance(self.unavailable, tuple) else (self.unavailable,)
        if wrong := [value for value in listed if not 0.0 <= value <= 1.0]:
            raise ConfigError(f"unavailable must be probabilities from 0 to 1, got {wrong}")

    def is_available(self, device: int, server_round: int, *, own: float = 0.0) -> bool:
        """Whether a device can take part in a round.

        Every device and round is drawn for itself: the same for one seed in whatever order is
        asked.

        Parameters
        ----------
        device
            Its number in the fleet.
        server_round
            Which round.
        own
            Probability that it is away by itself, as the fleet says.
        """
        chance = random.Random(f"{self.seed}/{server_round}/{device}").random()
        return chance < (1.0 - own) * (1.0 - self._probability(device))

    def memory_factor(self, device: int, server_round: int) -> float:
        """How many times its own memory a device has in a round."""
        begun = [
            change
            for change in self.budget_changes
            if change.device == device and change.first_round <= server_round
        ]
        return max(begun, key=lambda change: change.first_round).factor if begun else 1.0

    def _probability(self, device: int) -> float:
        if not isinstance(self.unavailable, tuple):
            return self.unavailable
        if device >= len(self.unavailable):
            raise ConfigError(
                f"unavailable lists {len(self.unavailable)} devices, there is a device {device}: "
                "one probability for each is wanted, or one for all"
            )
        return self.unavailable[device]


def budget_changes(text: str) -> tuple[BudgetChange, ...]:
    """The changes of ``"3:2=0.5, 5:0=2"``: from round 3 on, device 2 has half its memory.

    Raises
    ------
    ConfigError
        Naming every item that is not ``ROUND:DEVICE=FACTOR``.
    """
    found, wrong = [], []
    for item in filter(None, (part.strip() for part in text.split(","))):
        try:
            when, _, factor = item.partition("=")
            first_round, _, device = when.partition(":")
            found.append(
                BudgetChange(device=int(device), first_round=int(first_round), factor=float(factor))
            )
        except ConfigError as error:
            wrong.append(f"{item!r}: {error}")
        except ValueError:
            wrong.append(f"{item!r} is not ROUND:DEVICE=FACTOR, such as 3:2=0.5")
    if wrong:
        raise ConfigError("budget-changes: " + "; ".join(wrong))
    return tuple(found)
