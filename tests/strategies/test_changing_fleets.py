"""Simulated devices that change while a run goes on: in memory, or in being there."""

from pathlib import Path

import pytest
from flwr.app import MessageType

from hsplit_flower.errors import ConfigError, HSplitError
from hsplit_flower.server import RoundReport
from hsplit_flower.simulation.disturbances import Disturbances
from tests.strategies.budget_run import run
from tests.strategies.clients import NAMES, NODES, WatchedWorker

FIRST, SECOND, THIRD = NODES


def test_a_budget_that_is_halved_while_running_is_answered_in_the_next_plan(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports, _ = run(model, worker, rounds=3, budget_changes="3:2=0.5")
    before, after = reports[1].clients[THIRD], reports[2].clients[THIRD]
    assert after.budget_bytes == pytest.approx(before.budget_bytes / 2)
    assert reports[2].replanned
    assert f"client {NAMES[THIRD]}" in reports[2].planning_reason
    assert after.plan.memory.total_bytes <= after.budget_bytes
    assert after.dropped is None
    assert any(f"client {NAMES[THIRD]} has" in line and "it had" in line for line in flower_log)


def test_a_change_of_a_device_that_the_run_does_not_have_ends_it_before_it_trains(
    model: str, worker: WatchedWorker
) -> None:
    sent: list[str] = []
    with pytest.raises(ConfigError, match=r"no device 99 in .*devices are 0 to 2"):
        run(
            model,
            worker,
            rounds=3,
            fleet="homogeneous",
            budget_changes="3:99=0.5",
            before=lambda _, message: sent.append(message.metadata.message_type),
        )
    assert set(sent) == {MessageType.QUERY}


def test_devices_that_are_away_are_not_asked_to_train(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    disturbances = Disturbances(unavailable=(0.0, 1.0, 0.5), seed=5)
    there = [disturbances.is_available(2, server_round) for server_round in (1, 2, 3, 4)]
    assert set(there) == {True, False}
    reports, _ = run(model, worker, rounds=4, unavailable=disturbances.unavailable, training_seed=5)
    for report, has_third in zip(reports, there, strict=True):
        assert set(report.clients) == ({FIRST, THIRD} if has_third else {FIRST})
        assert set(report.away) == set(NODES) - set(report.clients)
        assert report.completed
    assert any(NAMES[SECOND] in line and line.endswith(" away") for line in flower_log)
    assert f"\t> client {NAMES[THIRD]} is back" in flower_log


def test_a_round_without_enough_devices_leaves_the_adapter_as_it_is(
    model: str, worker: WatchedWorker
) -> None:
    reports: list[RoundReport] = []
    types: list[str] = []
    with pytest.raises(HSplitError, match="nothing was learnt"):
        run(
            model,
            worker,
            rounds=1,
            reports=reports,
            before=lambda _, message: types.append(message.metadata.message_type),
            unavailable=(0.0, 1.0, 1.0),
            min_train_nodes=2,
        )
    assert not reports[0].completed
    assert reports[0].clients == {}
    assert set(types) == {MessageType.QUERY}


def test_a_round_that_is_left_out_repeats_nothing_of_the_one_before(
    model: str, worker: WatchedWorker
) -> None:
    reports, _ = run(
        model, worker, rounds=2, unavailable=(0.0, 0.5, 0.5), training_seed=2, min_train_nodes=2
    )
    assert [report.completed for report in reports] == [True, False]
    assert [report.replanned for report in reports] == [True, False]
    assert [report.planning_reason for report in reports] == [
        "the first round",
        "nothing is planned",
    ]


def test_a_round_without_any_device_that_fits_is_left_out_and_the_run_goes_on(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    disturbances = Disturbances(unavailable=(0.5, 0.0, 0.0), seed=7)
    there = [disturbances.is_available(0, server_round) for server_round in range(1, 5)]
    assert there == [False, True, False, True]
    reports, sent = run(
        model,
        worker,
        rounds=4,
        fleet="1.0,0.01,0.01",
        unavailable=disturbances.unavailable,
        training_seed=7,
        fraction_evaluate=1.0,
        min_evaluate_nodes=1,
    )
    assert [set(report.clients) for report in reports] == [{FIRST} if h else set() for h in there]
    assert [report.completed for report in reports] == there
    asked = [m for m in sent if m.metadata.message_type != MessageType.QUERY]
    assert {message.metadata.dst_node_id for message in asked} == {FIRST}
    assert len(asked) == 2 * sum(there), "to train and to evaluate"
    assert (
        sum("0 clients can take part, 1 are wanted: training" in line for line in flower_log) == 2
    )
    for node in (SECOND, THIRD):
        told = [line for line in flower_log if NAMES[node] in line and " left out: " in line]
        assert told and len(set(told)) == len(told), "once, until it lacks something else"


def test_a_file_says_how_often_its_devices_are_away(
    model: str, worker: WatchedWorker, tmp_path: Path
) -> None:
    device = "[[device]]\nmemory-gb = 3e-4\nflops = 1e9\n"
    file = tmp_path / "fleet.toml"
    file.write_text(f"{device}{device}unavailable = 0.999999\n{device}", encoding="utf-8")
    reports, _ = run(model, worker, rounds=2, fleet=str(file))
    for report in reports:
        assert report.away == (SECOND,)
        assert set(report.clients) == {FIRST, THIRD}
        assert report.completed
