"""Which tasks run next, and together, is a pure function of the queue."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.worker.scheduler import (
    Demand,
    Limits,
    Task,
    companions,
    fits,
    is_gathered,
    next_batch,
)

demands = st.none() | st.builds(
    Demand,
    group=st.sampled_from([None, "train", "evaluate"]),
    num_rows=st.integers(1, 8),
    num_positions=st.integers(1, 40),
)
limits = st.builds(
    Limits,
    max_tokens=st.integers(1, 400),
    max_padding_share=st.floats(0, 0.9),
    max_tasks=st.integers(1, 6),
)
arriving = st.lists(st.tuples(st.integers(0, 4), demands), min_size=1, max_size=25)
"""Owners and demands, in the order in which they come."""


def _queue(arrivals: Sequence[tuple[int, Demand | None]]) -> list[Task]:
    return [
        Task(arrival=number, work=None, owner=owner, demand=demand)
        for number, (owner, demand) in enumerate(arrivals)
    ]


def _batches(trace: list[list[tuple[int, Demand | None]]], limits: Limits) -> list[list[Task]]:
    """What runs when the tasks of ``trace`` come in while the batches before them run."""
    coming = iter(trace)
    queue: list[Task] = []
    batches = []
    arrival = 0
    while True:
        for owner, demand in next(coming, []):
            queue.append(Task(arrival=arrival, work=None, owner=owner, demand=demand))
            arrival += 1
        if not queue:
            if (following := next(coming, None)) is None:
                return batches
            coming = iter([following, *coming])
            continue
        batch = next_batch(queue, limits)
        queue = [task for task in queue if task not in batch]
        batches.append(batch)


traces = st.lists(st.lists(st.tuples(st.integers(0, 4), demands), max_size=6), max_size=8)


@given(traces, limits)
def test_nobody_starves(trace: list[list[tuple[int, Demand | None]]], limits: Limits) -> None:
    """However they come in: a task runs after no more batches than there were tasks before it."""
    batches = _batches(trace, limits)
    ran = [task for batch in batches for task in batch]
    assert sorted(task.arrival for task in ran) == list(range(sum(map(len, trace))))
    for number, batch in enumerate(batches):
        oldest = min(task.arrival for rest in batches[number:] for task in rest)
        assert batch[0].arrival == oldest, "the oldest is in the next batch, always"


@given(traces, limits)
def test_each_owners_tasks_run_in_their_order(
    trace: list[list[tuple[int, Demand | None]]], limits: Limits
) -> None:
    ran: dict[object, list[int]] = {}
    for batch in _batches(trace, limits):
        owners = [task.owner for task in batch]
        assert len(set(owners)) == len(owners), "one at a time"
        for task in batch:
            ran.setdefault(task.owner, []).append(task.arrival)
    assert all(arrivals == sorted(arrivals) for arrivals in ran.values())


@given(arriving, limits)
def test_a_batch_keeps_to_the_limits_unless_it_is_one_task(
    arrivals: list[tuple[int, Demand | None]], limits: Limits
) -> None:
    batch = next_batch(_queue(arrivals), limits)
    assert len(batch) <= limits.max_tasks
    if len(batch) > 1:
        assert None not in {task.demand and task.demand.group for task in batch}
        assert len({task.demand.group for task in batch}) == 1
        longest = max(task.demand.num_positions for task in batch)
        padded = longest * sum(task.demand.num_rows for task in batch)
        wanted = sum(task.demand.num_rows * task.demand.num_positions for task in batch)
        assert padded <= limits.max_tokens
        assert (padded - wanted) / padded <= limits.max_padding_share + 1e-9


@given(arriving, limits)
def test_nothing_that_may_join_is_left_out(
    arrivals: list[tuple[int, Demand | None]], limits: Limits
) -> None:
    queue = _queue(arrivals)
    batch = next_batch(queue, limits)
    owners = {task.owner for task in batch}
    if len(batch) == limits.max_tasks or batch[0].demand is None or batch[0].demand.group is None:
        return
    for owner in {task.owner for task in queue} - owners:
        first = next(task for task in queue if task.owner == owner)
        if first.demand is None or first.demand.group != batch[0].demand.group:
            continue
        before = [task for task in batch if task.arrival < first.arrival]
        assert not before or not fits([*before, first], limits)


@given(arriving, limits, st.randoms())
def test_the_order_of_the_queue_does_not_matter_and_looking_changes_nothing(
    arrivals: list[tuple[int, Demand | None]], limits: Limits, random: Random
) -> None:
    queue = _queue(arrivals)
    wanted = next_batch(queue, limits)
    random.shuffle(queue)
    before = list(queue)
    assert next_batch(tuple(queue), limits) == wanted
    assert queue == before
    assert not any(task.future.done() for task in queue)


def _task(arrival: int, rows: int = 1, seq: int = 10, owner: int | None = None) -> Task:
    demand = Demand(group="train", num_rows=rows, num_positions=seq)
    return Task(
        arrival=arrival, work=None, owner=arrival if owner is None else owner, demand=demand
    )


def test_a_task_larger_than_a_batch_may_be_runs_by_itself() -> None:
    large, small = _task(0, rows=50), _task(1)
    assert next_batch([large, small], Limits(max_tokens=100)) == [large]


def test_a_short_sequence_does_not_join_a_long_one_beyond_the_share_of_padding() -> None:
    queue = [_task(0, seq=40), _task(1, seq=10), _task(2, seq=30)]
    assert next_batch(queue, Limits(max_padding_share=0.25)) == [queue[0], queue[2]]
    assert next_batch(queue, Limits(max_padding_share=0.5)) == queue


def test_a_task_waits_for_an_earlier_one_of_its_owner_that_cannot_join() -> None:
    alone = Task(arrival=1, work=None, owner=7)
    queue = [_task(0), alone, _task(2, owner=7), _task(3)]
    assert next_batch(queue, Limits()) == [queue[0], queue[3]]


def test_an_empty_queue_has_no_next_batch() -> None:
    with pytest.raises(ValueError, match="empty"):
        next_batch([], Limits())


@pytest.mark.parametrize("bad", [{"max_tokens": 0}, {"max_tasks": 0}, {"max_padding_share": 1.0}])
def test_limits_that_hold_nothing_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"a batch must hold|max_padding_share must be"):
        Limits(**bad)


def test_only_brief_tasks_wait_for_each_other() -> None:
    brief = Demand(group="next", num_rows=1, num_positions=9, is_brief=True)
    long = Demand(group="train", num_rows=1, num_positions=9)
    shared = companions(_queue([(0, brief), (1, brief), (2, long), (3, None)]))
    assert shared == {0, 1}
    assert not is_gathered(_queue([(0, brief)]), shared)
    assert is_gathered(_queue([(1, brief), (0, brief)]), shared)
    assert is_gathered(_queue([(0, brief), (2, long)]), shared), "nobody else waits for them"
    assert is_gathered(_queue([(0, brief)]), companions(_queue([(0, long)])))


def test_padding_of_brief_tasks_may_be_of_any_share() -> None:
    lengths = (1, 90)
    brief, other = (
        [
            Task(
                arrival=n,
                work=None,
                demand=Demand(group="x", num_rows=1, num_positions=length, is_brief=is_brief),
            )
            for n, length in enumerate(lengths)
        ]
        for is_brief in (True, False)
    )
    assert fits(brief, Limits(max_tokens=180))
    assert not fits(brief, Limits(max_tokens=179))
    assert not fits(other, Limits(max_tokens=180))
