"""How far a round is, from what worker and replies say: values in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..names import in_order, listed
from ..sizes import digits_text, time_text
from ..wire.work_done import WorkDone

MOST_NAMES = 3
# With less there is nothing to reckon the rest from.
LEAST_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class RoundSteps:
    """Who is to take how many steps in a round, who took them, and who has answered.

    Attributes
    ----------
    server_round
        Which one.
    names
        Of those that take part, by client.
    expected
        Steps that a client is to take, where they are known.
    answered
        Who is not waited for any more, by what it answered: whether that was a result.
    done
        By the workers.
    """

    server_round: int
    names: Mapping[int, str]
    expected: Mapping[int, int] = field(default_factory=dict)
    answered: Mapping[int, bool] = field(default_factory=dict)
    done: WorkDone = field(default_factory=WorkDone)

    def with_answer(self, client: int, *, is_result: bool) -> "RoundSteps":
        """After a client's reply: a result, or the reason why there is none."""
        if client not in self.names:
            return self
        return replace(self, answered={**self.answered, client: is_result})

    def with_work(self, done: WorkDone) -> "RoundSteps":
        """After the workers were asked."""
        return replace(self, done=done)

    @property
    def waited_for(self) -> list[str]:
        """Names of those that have not answered."""
        return in_order(name for node, name in self.names.items() if node not in self.answered)

    @property
    def failed(self) -> list[str]:
        """Names of those that answered with no result."""
        return sorted(
            self.names[node] for node, is_result in self.answered.items() if not is_result
        )

    @property
    def share(self) -> float:
        """The part of the round that is done, from 0 to 1: who has answered is done with its."""
        if not self.names:
            return 0.0
        usual = max(
            (self._taken(c) for c, is_result in self.answered.items() if is_result), default=0
        )
        parts = (
            1.0 if client in self.answered else self._part(client, usual) for client in self.names
        )
        return sum(parts) / len(self.names)

    @property
    def has_begun(self) -> bool:
        """Whether anybody has done anything."""
        return bool(self.num_steps or self.answered)

    @property
    def num_steps(self) -> int:
        """Of all clients."""
        return sum(self.done.num_steps.values())

    def _taken(self, client: int) -> int:
        return self.done.num_steps.get(client, 0)

    def _part(self, client: int, usual: int) -> float:
        expected = self.expected.get(client) or usual
        # Nobody is done before its reply is there.
        return min(0.99, self._taken(client) / expected) if expected else 0.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a round goes, from two looks at it.

    ``tokens_per_second`` is None where no tokens are counted, ``left_seconds`` where it is too soon
    to say.
    """

    tokens_per_second: float | None = None
    left_seconds: float | None = None

    @classmethod
    def between(cls, first: RoundSteps, now: RoundSteps, seconds: float) -> "Pace":
        """From what was done in this time."""
        if seconds <= 0:
            return cls()
        num_tokens = now.done.num_tokens - first.done.num_tokens
        gained = now.share - first.share
        return cls(
            tokens_per_second=num_tokens / seconds if num_tokens > 0 else None,
            left_seconds=(1 - now.share) / gained * seconds if gained > LEAST_SHARE else None,
        )


def under_way(now: RoundSteps, pace: Pace) -> str:
    """``50%, 8 steps, 1240 tokens/s, 12 s left, waiting for clinic-a``."""
    told = [f"{100 * now.share:.0f}%", f"{now.num_steps} steps" if now.num_steps else ""]
    if pace.tokens_per_second is not None:
        told.append(f"{digits_text(pace.tokens_per_second)} tokens/s")
    if pace.left_seconds is not None:
        told.append(f"{time_text(pace.left_seconds)} left")
    if now.waited_for:
        told.append(f"waiting for {listed(now.waited_for, MOST_NAMES)}")
    return ", ".join(part for part in told if part)


def at_the_end(now: RoundSteps, pace: Pace, seconds: float) -> str:
    """``100%, 15 steps in 12 s, 1240 tokens/s; without clinic-a``: nobody is waited for now."""
    steps = f"{now.num_steps} steps in " if now.num_steps else ""
    told = f"100%, {steps}{time_text(seconds)}"
    if pace.tokens_per_second is not None:
        told += f", {digits_text(pace.tokens_per_second)} tokens/s"
    gone = [*now.failed, *now.waited_for]
    return f"{told}; without {listed(gone, MOST_NAMES)}" if gone else told
