"""Cuts against brute force, by objective value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.errors import InfeasibleBudgetError
from hsplit_flower.planning import ClientOptions, WorkerOptions, choose_cuts, makespan
from tests.reference.planning import best_makespan

NUM_BLOCKS = 5


def rising(values: list[float]) -> list[float]:
    return [sum(values[: index + 1]) for index in range(len(values))]


steps = st.lists(
    st.floats(0.0, 4.0).map(lambda x: round(x, 2)), min_size=NUM_BLOCKS + 1, max_size=NUM_BLOCKS + 1
)


@st.composite
def clients(draw: st.DrawFn, min_cut: int = 1) -> dict[int, ClientOptions]:
    options = {}
    for client in range(draw(st.integers(1, 4))):
        deepest = draw(st.integers(min_cut, NUM_BLOCKS))
        options[client] = ClientOptions(
            seconds=rising(draw(steps)),
            deepest=deepest,
            roomy=draw(st.integers(min_cut, deepest)),
        )
    return options


@st.composite
def workers(draw: st.DrawFn) -> WorkerOptions:
    return WorkerOptions(
        seconds=rising(draw(steps))[::-1],
        base_bytes=rising(draw(steps))[::-1],
        session_bytes=rising(draw(steps))[::-1],
        budget_bytes=draw(st.floats(0.0, 80.0)),
    )


@given(clients(), workers())
def test_makespan_is_that_of_brute_force(
    clients: dict[int, ClientOptions], worker: WorkerOptions
) -> None:
    best = best_makespan(clients, worker, 1)
    if best is None:
        with pytest.raises(InfeasibleBudgetError, match="lacks"):
            choose_cuts(clients, worker)
        return
    cuts = choose_cuts(clients, worker)
    assert makespan(cuts, clients, worker) == pytest.approx(best, rel=1e-12, abs=1e-12)


@given(clients(min_cut=2), workers(), st.floats(0.0, 0.5))
def test_cuts_stay_within_every_limit(
    clients: dict[int, ClientOptions], worker: WorkerOptions, slack: float
) -> None:
    best = best_makespan(clients, worker, 2)
    if best is None:
        return
    cuts = choose_cuts(clients, worker, min_cut=2, slack=slack)
    assert cuts.keys() == clients.keys()
    assert all(2 <= cut <= clients[client].deepest for client, cut in cuts.items())
    assert worker.needed_bytes(cuts.values()) <= worker.budget_bytes + 1e-9
    assert makespan(cuts, clients, worker) <= best * (1 + slack) + 1e-9


def one_worker(seconds_per_block: float, budget_bytes: float = 1e9) -> WorkerOptions:
    blocks_left = range(NUM_BLOCKS, -1, -1)
    return WorkerOptions(
        seconds=[seconds_per_block * blocks for blocks in blocks_left],
        base_bytes=[10.0 * blocks for blocks in blocks_left],
        session_bytes=[1.0 * blocks for blocks in blocks_left],
        budget_bytes=budget_bytes,
    )


def one_client(seconds_per_block: float, deepest: int, roomy: int) -> ClientOptions:
    return ClientOptions(
        seconds=[seconds_per_block * cut for cut in range(NUM_BLOCKS + 1)],
        deepest=deepest,
        roomy=roomy,
    )


def test_a_fast_worker_takes_all_it_may() -> None:
    clients = {3: one_client(1.0, 5, 5), 8: one_client(2.0, 5, 5)}
    cuts = choose_cuts(clients, one_worker(0.001))
    # The slower client sets the pace at its smallest cut; the other may go as deep within it.
    assert cuts == {3: 2, 8: 1}


def test_a_slow_worker_leaves_all_to_the_clients() -> None:
    clients = {0: one_client(0.1, 4, 4), 1: one_client(0.1, 5, 5)}
    assert choose_cuts(clients, one_worker(10.0)) == {0: 4, 1: 5}


def test_a_cramped_client_gives_blocks_back_while_the_worker_keeps_up() -> None:
    clients = {0: one_client(0.0, 5, 2), 1: one_client(5.0, 1, 1)}
    assert choose_cuts(clients, one_worker(0.1)) == {0: 2, 1: 1}
    # Here every block given back would cost time.
    assert choose_cuts(clients, one_worker(2.0)) == {0: 5, 1: 1}


def test_slack_buys_room_for_adapters() -> None:
    clients = {0: one_client(0.0, 5, 3)}
    worker = WorkerOptions(
        seconds=[1.2, 1.12, 1.08, 1.04, 1.02, 1.0],
        base_bytes=[0.0] * 6,
        session_bytes=[0.0] * 6,
        budget_bytes=1.0,
    )
    assert choose_cuts(clients, worker) == {0: 5}
    assert choose_cuts(clients, worker, slack=0.03) == {0: 4}
    assert choose_cuts(clients, worker, slack=0.5) == {0: 3}


def test_worker_memory_forces_deeper_cuts() -> None:
    clients = {0: one_client(1.0, 5, 5), 1: one_client(1.0, 5, 5)}
    fast = 1e-6
    assert choose_cuts(clients, one_worker(fast)) == {0: 1, 1: 1}
    assert choose_cuts(clients, one_worker(fast, budget_bytes=24.0)) == {0: 3, 1: 3}


def test_nobody_is_no_error() -> None:
    assert choose_cuts({}, one_worker(1.0)) == {}
