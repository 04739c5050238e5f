"""Which waiting tasks the device runs next, and which of them together: pure functions."""

from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a task asks of a pass over the base, and with which others it may share one.

    Tasks of one ``group`` may share a pass; a group of None shares with none. One that ``is_brief``
    is a single token of each row: padding costs attention alone, so it may be of any share, and who
    comes too late for a pass loses as much as the pass takes, so it is waited for a moment.
    """

    group: Hashable
    num_rows: int
    num_positions: int
    is_brief: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Work for the device, and where its result goes.

    ``arrival`` counts up by one. Tasks of one ``owner`` keep their order, and are never in one
    batch; what waits under an owner's ``key`` is there once. ``work`` is called where the task runs
    by itself, without a ``demand``; else it is what is run together with others.
    """

    arrival: int
    work: Any
    owner: Hashable = None
    demand: Demand | None = None
    key: Hashable = None
    future: "Future[Any]" = field(default_factory=Future)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a batch may be.

    Attributes
    ----------
    max_tokens
        Rows times the length of the longest, padding included. A larger task runs by itself.
    max_padding_share
        How much of that may be padding which the tasks did not bring with them.
    max_tasks
        How many tasks may share a batch.
    """

    max_tokens: int = 2**14
    max_padding_share: float = 0.25
    max_tasks: int = 64

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.max_tasks < 1:
            raise ValueError("a batch must hold a token and a task, or more")
        if not 0.0 <= self.max_padding_share < 1.0:
            raise ValueError(f"max_padding_share must be in [0, 1), got {self.max_padding_share}")


def next_batch(queue: Sequence[Task], limits: Limits) -> list[Task]:
    """The oldest task, and those after it that may share its pass and fit, oldest first.

    Whoever waits therefore runs after at most as many batches as there were tasks before it, and
    nothing waits for something that is not there yet.
    """
    ordered = sorted(queue, key=_arrival)
    if not ordered:
        raise ValueError("an empty queue has no next batch")
    oldest, *others = ordered
    batch = [oldest]
    if oldest.demand is None or oldest.demand.group is None:
        return batch
    passed_over = {oldest.owner}
    for task in others:
        if len(batch) == limits.max_tasks:
            break
        if task.owner in passed_over:
            continue
        # Later tasks of this owner must wait, whether this one is taken or not.
        passed_over.add(task.owner)
        is_of_group = task.demand is not None and task.demand.group == oldest.demand.group
        if is_of_group and fits([*batch, task], limits):
            batch.append(task)
    return batch


def fits(batch: Sequence[Task], limits: Limits) -> bool:
    """Whether tasks keep to the limits together."""
    demands = [task.demand for task in batch if task.demand is not None]
    longest = max(demand.num_positions for demand in demands)
    padded = sum(demand.num_rows for demand in demands) * longest
    wanted = sum(demand.num_rows * demand.num_positions for demand in demands)
    if padded > limits.max_tokens:
        return False
    is_brief = all(demand.is_brief for demand in demands)
    return is_brief or padded - wanted <= limits.max_padding_share * padded


def companions(batch: Sequence[Task]) -> frozenset[Hashable]:
    """Whose brief tasks share a pass, and would share the next one."""
    return frozenset(task.owner for task in batch if _is_brief(task))


def is_gathered(queue: Sequence[Task], expected: Collection[Hashable]) -> bool:
    """Whether the next batch need not wait a moment.

    It need not if all of those that are expected are there, or anybody else who would wait with it.
    """
    if not all(map(_is_brief, queue)):
        return True
    return {task.owner for task in queue}.issuperset(expected)


def _is_brief(task: Task) -> bool:
    return task.demand is not None and task.demand.is_brief


def _arrival(task: Task) -> int:
    return task.arrival


Together = Callable[[Sequence[Any]], Sequence[Any]]
"""Runs what tasks of one batch brought, and gives a result or an exception for each."""
