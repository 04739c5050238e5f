"""Budgets over the rounds: enforced, and corrected by what was measured."""

from itertools import pairwise

import pytest
from flwr.app import Context, Message

from hsplit_flower.client.app import split_train
from hsplit_flower.sizes import size_text
from tests.strategies.budget_run import ROWS, asked_in, instructions_in, run
from tests.strategies.clients import NAMES, NODES, Batches, Train, WatchedWorker

FIRST, SECOND, THIRD = NODES

CLOCK_PARTS = ("compute", "link", "worker", "waiting")


def test_what_a_client_holds_is_measured_and_inside_its_budget(
    model: str, worker: WatchedWorker
) -> None:
    reports, sent = run(model, worker, rounds=2)
    for report in reports:
        assert len(report.clients) == len(NODES)
        for node, client in report.clients.items():
            assert client.dropped is None
            assert 0 < client.peak_bytes <= client.budget_bytes
            told = report.record().to_dict()["clients"][NAMES[node]]
            assert told["peak-bytes"] == client.peak_bytes
            assert told["predicted-bytes"] == client.plan.memory.total_bytes
            parts = [told[f"simulated-{part}-seconds"] for part in CLOCK_PARTS]
            assert sum(parts) == pytest.approx(report.simulated.seconds)
            assert all(part > 0 for part in parts[:3])
    for told_to in instructions_in(sent):
        assert 0 < told_to.predicted_bytes <= told_to.budget_bytes
        assert told_to.lease_gpu_fraction == 0.0


def test_who_takes_too_much_is_left_out_and_planned_lower(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    # Predicted for one row, the clients train on three; only the first has room for that.
    reports, _ = run(model, worker, rounds=4, predicted_rows=1, fleet="1.0,0.37,0.37")
    first, *_, last = reports
    failed = {node for node, client in first.clients.items() if client.dropped}
    assert failed == {SECOND, THIRD}
    for node in failed:
        assert any(NAMES[node] in line and " planned for 1/1." in line for line in flower_log)
        rounds = [report.clients[node] for report in reports]
        for client, next_one in pairwise(rounds):
            if client.dropped is not None:
                assert client.peak_bytes > client.budget_bytes >= client.plan.memory.total_bytes
                assert f"at least {size_text(client.peak_bytes)}," in client.dropped
                planned = client.plan.memory.total_bytes
                assert next_one.plan.memory.total_bytes < planned
        assert last.clients[node].dropped is None
    assert all(report.completed for report in reports), "who keeps to its budget carries the round"
    assert all(report.clients[FIRST].dropped is None for report in reports)


def _one_row_from_the_second_round_on(msg: Message, context: Context, some: Batches) -> Message:
    is_first = msg.content.config_records["config"]["server-round"] == 1
    rows = ROWS if is_first else 1
    batches = [{name: field[:rows] for name, field in batch.items()} for batch in some]
    return split_train(msg, context, batches)


@pytest.mark.long
def test_who_then_stays_well_inside_is_planned_for_all_of_its_memory_again(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports, _ = run(
        model,
        worker,
        rounds=5,
        predicted_rows=1,
        fleet="1.0,0.37,1.0",
        faults={1: _one_row_from_the_second_round_on},
        cooldown_rounds=0,
        margin=0.0,
    )
    clients = [report.clients[SECOND] for report in reports]
    assert clients[0].dropped is not None
    assert [client.dropped for client in clients[1:]] == [None] * 4
    told = [line for line in flower_log if "for all of its memory again" in line]
    assert told == [f"\t> client {NAMES[SECOND]} is planned for all of its memory again"]
    planned = [client.plan.memory.total_bytes for client in clients]
    assert planned[3] > planned[1]


def _exceeding_in(*rounds: int) -> Train:
    """Train on whole batches in these rounds, and on one row in others, as is predicted."""

    def train(msg: Message, context: Context, some: Batches) -> Message:
        rows = ROWS if msg.content.config_records["config"]["server-round"] in rounds else 1
        batches = [{name: field[:rows] for name, field in batch.items()} for batch in some]
        return split_train(msg, context, batches)

    return train


# The memory of the second holds the smallest cut, and hardly more.
JUST_ENOUGH = "1.0,0.12,1.0"


@pytest.mark.long
def test_who_is_left_out_for_one_large_batch_is_tried_again(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports, _ = run(
        model,
        worker,
        rounds=6,
        predicted_rows=1,
        fleet=JUST_ENOUGH,
        faults={1: _exceeding_in(1)},
    )
    assert reports[0].clients[SECOND].plan.cut == 1
    assert reports[0].clients[SECOND].dropped is not None
    asked = asked_in(reports, SECOND)
    assert 2 not in asked, "it is left out at first"
    again = reports[asked[1] - 1]
    assert again.replanned
    assert NAMES[SECOND] in again.planning_reason
    assert asked == [1, *range(asked[1], 7)]
    assert all(reports[number - 1].clients[SECOND].dropped is None for number in asked[1:])
    (own,) = {report.clients[SECOND].budget_bytes for report in reports if report.server_round == 1}
    left_out = [
        line for line in flower_log if f"> client {NAMES[SECOND]} is left out: it has" in line
    ]
    assert len(left_out) == asked[1] - 2
    assert all(f"it has {size_text(own)} (planned for 1/1." in line for line in left_out)


@pytest.mark.long
def test_who_exceeds_again_waits_longer(model: str, worker: WatchedWorker) -> None:
    reports, _ = run(
        model,
        worker,
        rounds=12,
        predicted_rows=1,
        fleet=JUST_ENOUGH,
        faults={1: _exceeding_in(*range(1, 13))},
    )
    asked = asked_in(reports, SECOND)
    assert all(reports[number - 1].clients[SECOND].dropped is not None for number in asked)
    waits = [later - earlier - 1 for earlier, later in pairwise(asked)]
    assert len(waits) >= 2
    assert waits == sorted(set(waits)), "longer each time"
    assert all(report.completed for report in reports)


def test_without_enforcement_nobody_is_stopped(model: str, worker: WatchedWorker) -> None:
    reports, _ = run(model, worker, rounds=1, predicted_rows=1, enforce_budgets=False)
    for client in reports[0].clients.values():
        assert client.dropped is None
        assert client.peak_bytes == 0.0
