"""From the app's settings to a strategy that is ready to start, or to what it lacks."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.cli import main
from hsplit_flower.errors import (
    ConfigError,
    DataError,
    InfeasibleBudgetError,
    SplitError,
    UnsupportedModelError,
)
from hsplit_flower.methods import METHODS
from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.types import ClientInfo, DeviceProfile, Plan, WorkerDescription
from hsplit_flower.worker.pool.cluster import may_leave_this_node

WORKER = WorkerDescription(
    model="llama-tiny",
    num_blocks=8,
    lowest_cut=1,
    memory_bytes=8e9,
    flops_per_second=1e10,
    dtype="float32",
    max_sessions=256,
)
pytestmark = pytest.mark.usefixtures("app_on_the_path")


def clients(count: int) -> dict[int, ClientInfo]:
    """Clients that are simulated: what they have, the fleet says."""
    profile = DeviceProfile(memory_bytes=1.0, flops_per_second=1.0)
    return {
        node: ClientInfo(profile=profile, num_examples=1, partition=node, num_partitions=count)
        for node in range(count)
    }


def first_plan(strategy: SplitStrategy, count: int) -> Plan:
    """What so many simulated clients would get in the first round."""
    worker = strategy.devices.worker(strategy.planner.worker_profile(WORKER))
    devices = strategy.devices.in_round(clients(count), 1)
    return strategy.planner.plan_round(strategy.state, devices, worker).plan


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ([], {}),
        (
            ["--wire-type", "int8", "--labels", "client", "--batch", "4"],
            {
                "link.wire-type": "int8",
                "training.labels": "client",
                "training.batch-size": 4,
            },
        ),
        (["--seed", "3"], {"training.seed": 3}),
    ],
    ids=["default", "changed", "seed"],
)
@pytest.mark.one_in(3)
def test_the_plan_of_the_command_line_is_the_plan_of_a_run(
    options: list[str],
    changed: dict[str, Any],
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
):
    from nlg.run_config import RunConfig

    from hsplit_flower.runs import strategy_of

    assert main(["plan", "--model", "llama-tiny", "--json", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    planned, left_out = report["clients"], report["left_out"]
    strategy = strategy_of(RunConfig.from_run_config({**settings, **changed}))
    run = first_plan(strategy, len(planned) + len(left_out))
    assert sorted(run.clients) == [client["client"] for client in planned]
    assert sorted(run.left_out) == [client["client"] for client in left_out]
    assert report["step_seconds"] == pytest.approx(run.step_seconds)
    for client in planned:
        part = run.clients[client["client"]]
        assert (client["cut"], client["ranks"]) == (part.cut, part.ranks)
        assert client["memory_bytes"] == round(part.memory.total_bytes)
        assert client["wire_bytes"] == part.wire_bytes


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"model.name": "no/such-model-here"},
            UnsupportedModelError,
            "no usable model configuration",
        ),
        (
            {"training.sequence-length": 257},
            ConfigError,
            "training.sequence-length is 257: the model has 256 positions",
        ),
        ({"planning.min-cut": 9}, SplitError, "can be cut at 1 to 8"),
    ],
)
def test_what_cannot_work_is_said_before_training(
    settings: dict[str, Any], changed: dict[str, Any], error: type[Exception], message: str
):
    from nlg.run_config import RunConfig

    from hsplit_flower.runs import strategy_of

    config = RunConfig.from_run_config({**settings, **changed})
    with pytest.raises(error, match=re.escape(message)):
        strategy_of(config)


def test_simulated_clients_have_a_fleet_and_deployed_ones_none(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    from hsplit_flower.runs import strategy_of

    config = RunConfig.from_run_config(settings)
    assert strategy_of(config).settings.simulation.fleet == "heterogeneous"
    assert strategy_of(config, is_deployed=True).devices.takes_reports
    reported = RunConfig.from_run_config({**settings, "simulation.fleet": "reported"})
    assert strategy_of(reported).devices.takes_reports


def test_workers_on_ray_are_started_as_the_settings_say(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    from hsplit_flower.runs import strategy_of

    changed = {
        "worker.placement": "ray",
        "worker.num-workers": 3,
        "worker.host": "0.0.0.0",
        "worker.insecure": True,
        "worker.port": 8600,
    }
    worker = strategy_of(RunConfig.from_run_config({**settings, **changed})).settings.worker
    assert worker.num_workers == 3 and may_leave_this_node(worker)
    assert worker.port == 8600 and worker.num_threads == settings["worker.num-threads"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.one_in(3)
def test_the_method_is_the_one_that_is_named(settings: dict[str, Any], name: str):
    from nlg.run_config import RunConfig

    from hsplit_flower.runs import strategy_of

    strategy = strategy_of(RunConfig.from_run_config({**settings, "strategy": name}))
    assert strategy.method.name == name


def test_one_node_is_enough_for_a_round_and_for_its_evaluation(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    from hsplit_flower.runs import strategy_of

    few = {
        "sampling.min-train-nodes": 1,
        "sampling.min-evaluate-nodes": 1,
        "sampling.min-available-nodes": 1,
        "sampling.fraction-evaluate": 1.0,
    }
    sampling = strategy_of(RunConfig.from_run_config({**settings, **few})).settings.sampling
    assert sampling.min_train_nodes == sampling.min_evaluate_nodes == 1
    assert sampling.min_available_nodes == 1


def test_a_folder_without_the_wanted_columns_is_refused(settings: dict[str, Any], tmp_path: Path):
    from nlg.assemble import evaluation_of
    from nlg.run_config import RunConfig

    (tmp_path / "devset.csv").write_text("meaning,text\na,b\n", encoding="utf-8")
    config = RunConfig.from_run_config({**settings, "dataset": str(tmp_path)})
    with pytest.raises(DataError, match="mr"):
        evaluation_of(config)


def test_an_unknown_data_set_is_refused(settings: dict[str, Any]):
    from nlg.assemble import evaluation_of
    from nlg.run_config import RunConfig

    config = RunConfig.from_run_config({**settings, "dataset": "restuarants"})
    with pytest.raises(DataError, match="restaurants"):
        evaluation_of(config)


def test_an_unknown_fleet_is_refused_before_the_run(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    from hsplit_flower.runs import strategy_of

    strategy = strategy_of(RunConfig.from_run_config({**settings, "simulation.fleet": "huge"}))
    with pytest.raises(ConfigError, match="huge"):
        strategy.devices.check(2, None)


def test_a_fleet_that_holds_no_cut_names_its_clients(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    from hsplit_flower.runs import strategy_of

    small = {**settings, "simulation.fleet": "1MB,2MB"}
    with pytest.raises(InfeasibleBudgetError, match=r"client 0 has 1 MB.*lacks") as caught:
        first_plan(strategy_of(RunConfig.from_run_config(small)), 2)
    assert "client 1 has 2 MB" in str(caught.value)
