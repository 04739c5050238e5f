"""A run whose clients do not get through to the worker ends, and says what to set."""

from collections.abc import Iterable

import pytest

from hsplit_flower.errors import HSplitError, WorkerUnavailableError
from hsplit_flower.server.client_report import ClientReport
from hsplit_flower.server.collection import TrainResults
from hsplit_flower.server.reach import Reach
from hsplit_flower.settings import Worker
from hsplit_flower.transport.traffic import Traffic
from hsplit_flower.types import ClientPlan, Span

PLAN = ClientPlan(span=Span(start=0, stop=1), ranks={})
TOLD = "10.9.9.9:8600"
WHY = WorkerUnavailableError(f"the split worker at {TOLD} was tried 5 times: no route to host")
ELSEWHERE = Worker(advertised_host="10.9.9.9", port=8600, insecure=True)


def round_of(unreached: Iterable[int], others: dict[int, Traffic | None]) -> TrainResults:
    """Results of a round in which nobody finished, by what the worker has had of each."""
    unreached = list(unreached)
    traffic = {**dict.fromkeys(unreached, Traffic()), **others}
    return TrainResults(
        reports={
            node: ClientReport(
                plan=PLAN, name=f"clinic-{node}", worker=TOLD, traffic=own, dropped="it failed"
            )
            for node, own in traffic.items()
        },
        unreached=dict.fromkeys(unreached, WHY),
    )


def test_the_address_is_named_with_what_to_set() -> None:
    with pytest.raises(WorkerUnavailableError) as ended:
        Reach(ELSEWHERE).check(round_of((2, 1), {}), num_nodes=2)
    assert str(ended.value) == (
        "no client has reached the split worker: clinic-1, clinic-2 were told that it is at "
        "10.9.9.9:8600. clinic-1 says: the split worker at 10.9.9.9:8600 was tried 5 times: no "
        "route to host. Set worker.advertised-host, which is '10.9.9.9', to a name or an address "
        "by which the clients reach the machine of the ServerApp, and let them through to port 8600"
    )


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        (Worker(), "advertised-host, which is empty, .* set worker.port to one"),
        (Worker(address="gpu:8600"), "Set worker.address, which is 'gpu:8600', to a name"),
    ],
    ids=["as it is by default", "on its own"],
)
def test_what_to_set_is_what_the_address_comes_from(worker: Worker, said: str) -> None:
    with pytest.raises(WorkerUnavailableError, match=said):
        Reach(worker).check(round_of((1, 2), {}), num_nodes=2)


@pytest.mark.parametrize(
    ("others", "num_nodes"),
    [
        ({}, 5),
        ({2: Traffic(up_bytes=1), 3: Traffic()}, 5),
        ({2: None}, 5),
    ],
    ids=["one of five", "another has reached it", "nobody knows of another"],
)
def test_one_client_does_not_end_a_run(others: dict[int, Traffic | None], num_nodes: int) -> None:
    Reach(ELSEWHERE).check(round_of([1], others), num_nodes=num_nodes)


def test_the_only_client_that_there_is_does() -> None:
    with pytest.raises(HSplitError, match="clinic-1 were told"):
        Reach(ELSEWHERE).check(round_of([1], {}), num_nodes=1)


def test_who_has_tried_in_one_round_and_another_in_the_next_are_two() -> None:
    reach = Reach(ELSEWHERE)
    reach.check(round_of([1], {}), num_nodes=5)
    reach.check(round_of([1], {}), num_nodes=5)
    with pytest.raises(WorkerUnavailableError, match="clinic-2 were told"):
        reach.check(round_of([2], {}), num_nodes=5)


def test_a_worker_that_somebody_has_reached_may_be_out_of_reach_later() -> None:
    reach = Reach(ELSEWHERE)
    reach.check(round_of([1], {2: Traffic(up_bytes=1)}), num_nodes=2)
    reach.check(round_of((1, 2), {}), num_nodes=2)
