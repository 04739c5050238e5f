"""Which task runs next is a pure function of the queue."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.worker.scheduler import Task, next_task

arrivals = st.lists(st.integers(0, 10_000), min_size=1, max_size=30, unique=True)


def _queue(numbers: list[int]) -> list[Task]:
    return [Task(arrival=number, run=int) for number in numbers]


@given(arrivals, st.randoms())
def test_first_come_first_served_whatever_the_order_of_the_queue(
    numbers: list[int], random: Random
) -> None:
    queue = _queue(numbers)
    random.shuffle(queue)
    served = []
    while queue:
        task = next_task(queue)
        queue.remove(task)
        served.append(task.arrival)
    assert served == sorted(numbers)


@given(arrivals)
def test_looking_changes_nothing(numbers: list[int]) -> None:
    queue = _queue(numbers)
    before = list(queue)
    assert next_task(queue) is next_task(tuple(queue))
    assert queue == before
    assert not any(task.future.done() for task in queue)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_no_client_starves(thinking: list[int]) -> None:
    """Each client has one task waiting, and puts in its next one as soon as it is served."""
    clients = range(len(thinking))
    queue = {client: Task(arrival=client, run=int) for client in clients}
    waited = dict.fromkeys(clients, 0)
    for arrival in range(len(thinking), 5 * len(thinking)):
        task = next_task(list(queue.values()))
        served = next(client for client in clients if queue[client] is task)
        queue[served] = Task(arrival=arrival, run=int)
        waited = {client: 0 if client == served else waited[client] + 1 for client in clients}
        assert max(waited.values()) < len(thinking)


def test_an_empty_queue_has_no_next_task() -> None:
    with pytest.raises(ValueError, match="empty"):
        next_task([])
