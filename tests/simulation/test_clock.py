"""Seconds of a round on devices that are not here."""

import pytest

from hsplit_flower.costs import PartSeconds
from hsplit_flower.simulation.clock import simulate_round


def _load(compute: float, link: float, worker: float) -> PartSeconds:
    return PartSeconds(compute_seconds=compute, link_seconds=link, worker_seconds=worker)


def test_one_client_waits_for_nobody() -> None:
    clock = simulate_round({7: [_load(1.0, 0.5, 0.25)] * 4})
    assert clock.seconds == pytest.approx(4 * 1.75)
    assert clock.clients[7].waiting_seconds == pytest.approx(0.0)


def test_a_busy_worker_is_the_bottleneck() -> None:
    clock = simulate_round({c: [_load(0.1, 0.1, 1.0)] * 3 for c in range(5)})
    # Its first step comes after 0.2 s, then it is never idle.
    assert clock.seconds == pytest.approx(0.2 + 15.0)


def test_a_slow_client_is_the_bottleneck_and_the_others_wait_for_it() -> None:
    clock = simulate_round({0: [_load(0.1, 0.0, 0.01)] * 10, 1: [_load(5.0, 0.0, 0.01)] * 10})
    assert clock.seconds == pytest.approx(10 * 5.01, rel=1e-2)
    assert clock.clients[0].waiting_seconds > 48.0
    for client in clock.clients.values():
        parts = (
            client.compute_seconds
            + client.link_seconds
            + client.worker_seconds
            + client.waiting_seconds
        )
        assert parts == pytest.approx(clock.seconds)


def test_two_that_come_together_are_served_one_after_the_other() -> None:
    clock = simulate_round({0: [_load(1.0, 0.0, 1.0)], 1: [_load(1.0, 0.0, 1.0)]})
    assert clock.seconds == pytest.approx(3.0)
    assert sorted(c.waiting_seconds for c in clock.clients.values()) == [1.0, 1.0]


def test_who_takes_no_step_takes_no_time() -> None:
    assert simulate_round({}).seconds == 0.0
    assert simulate_round({0: []}).seconds == 0.0


def test_a_first_step_that_takes_longer_counts_once() -> None:
    steps = [_load(3.0, 0.5, 0.5), *[_load(1.0, 0.5, 0.25)] * 3]
    clock = simulate_round({7: steps})
    assert clock.seconds == pytest.approx(4.0 + 3 * 1.75)
    assert clock.clients[7].compute_seconds == pytest.approx(6.0)
    assert clock.clients[7].waiting_seconds == pytest.approx(0.0)
