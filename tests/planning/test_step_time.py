"""Where a step's seconds go."""

import pytest

from hsplit_flower.planning import Bottleneck, bottleneck, step_times
from hsplit_flower.types import ClientPlan, DeviceProfile, Labels, Plan, Span
from tests.costs.test_seconds import COSTS, DEVICE, link_seconds

LINK = link_seconds(COSTS, profile=DEVICE, labels=Labels.SERVER)
FREE = DeviceProfile(memory_bytes=1.0, flops_per_second=6.0)


def a_plan(compute: float, load: float) -> Plan:
    """Client 0 has a link that takes ``LINK``, client 1 one that takes no time."""
    clients = {
        client: ClientPlan(
            span=Span(start=0, stop=1),
            ranks={},
            client_seconds=seconds,
            worker_seconds=load / 2,
        )
        for client, seconds in ((0, compute + LINK), (1, compute))
    }
    return Plan(clients=clients, step_seconds=max(compute + LINK, load))


@pytest.mark.parametrize(
    ("compute", "load", "first", "second", "all_of_them"),
    [
        (1.0, 2.0, Bottleneck.LINK, Bottleneck.WORKER, Bottleneck.LINK),
        (9.0, 2.0, Bottleneck.COMPUTE, Bottleneck.COMPUTE, Bottleneck.COMPUTE),
        (9.0, 40.0, Bottleneck.WORKER, Bottleneck.WORKER, Bottleneck.WORKER),
        # Slower than either part of a client, but not than both together.
        (9.0, 9.5, Bottleneck.WORKER, Bottleneck.WORKER, Bottleneck.COMPUTE),
    ],
)
def test_what_takes_longest(
    compute: float, load: float, first: Bottleneck, second: Bottleneck, all_of_them: Bottleneck
) -> None:
    plan = a_plan(compute, load)
    times = step_times(plan, COSTS, {0: DEVICE, 1: FREE}, labels=Labels.SERVER)
    assert times[0].compute_seconds == pytest.approx(compute)
    assert times[0].link_seconds == pytest.approx(LINK)
    assert times[1].link_seconds == 0.0
    assert times[0].waiting_seconds == pytest.approx(plan.step_seconds - compute - LINK)
    assert times[0].load_seconds == pytest.approx(load)
    assert [times[client].bottleneck for client in (0, 1)] == [first, second]
    assert bottleneck(times) is all_of_them
