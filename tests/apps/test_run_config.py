"""The app's settings: everything that is wrong is said at once, before anything starts."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
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
from hsplit_flower.types import ClientInfo, DeviceProfile, WorkerDescription

from .flower_app import APP

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WORKER = WorkerDescription(
    model="llama-tiny",
    num_blocks=8,
    lowest_cut=1,
    memory_bytes=8e9,
    flops_per_second=1e10,
    dtype="float32",
    max_sessions=256,
)


@pytest.fixture(autouse=True)
def app_on_the_path() -> Iterator[None]:
    """The app is not a part of the library: it is found where Flower would put it."""
    sys.path.insert(0, str(APP))
    yield
    sys.path.remove(str(APP))
    for name in [name for name in sys.modules if name.split(".")[0] == "nlg"]:
        del sys.modules[name]


@pytest.fixture
def settings() -> dict[str, Any]:
    """The app's own run-config."""
    with open(APP / "pyproject.toml", "rb") as file:
        return dict(tomllib.load(file)["tool"]["flwr"]["app"]["config"])


def members_of(num_clients: int) -> dict[int, ClientInfo]:
    """Clients that are simulated: what they have, the fleet says."""
    profile = DeviceProfile(memory_bytes=1.0, flops_per_second=1.0)
    return {
        node: ClientInfo(
            profile=profile, num_examples=1, partition=node, num_partitions=num_clients
        )
        for node in range(num_clients)
    }


def test_the_apps_own_settings_are_read(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    config = RunConfig.from_run_config(settings)
    assert config.model == "llama-tiny" and config.learning_rate == 8e-3


def test_every_key_is_there_and_described_once(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    names = [field.name for field in fields(RunConfig)]
    assert sorted(settings) == sorted(name.replace("_", "-") for name in names)
    described = re.findall(r"^    ([a-z_, ]+)\n        \S", RunConfig.__doc__ or "", re.MULTILINE)
    listed = [name for line in described for name in line.split(", ")]
    assert sorted(listed) == sorted(names)


def test_all_problems_are_reported_at_once(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    wrong = {
        "learnin-rate": 1.0,
        "batch-size": "16",
        "lora-alpha": 0,
        "labels": "nobody",
        "seed": -1,
    }
    wrong |= {"fraction-train": 1.5, "server-evaluation": 1, "step-timeout": float("nan")}
    wrong |= {"server-momentum": 1.0}
    del settings["partition"]
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_run_config({**settings, **wrong})
    message = str(caught.value)
    assert message.startswith("the run-config has 10 problems")
    for part in (
        "unknown key 'learnin-rate', did you mean 'learning-rate'?",
        "missing key 'partition'",
        "batch-size = '16': a whole number is wanted",
        "lora-alpha = 0.0: a positive number is wanted",
        "labels = 'nobody': one of 'server', 'client' is wanted",
        "seed = -1: 0 or more is wanted",
        "fraction-train = 1.5: a fraction from 0 to 1 is wanted",
        "server-evaluation = 1: true or false is wanted",
        "server-momentum = 1.0: a number from 0 to below 1 is wanted",
        "step-timeout = nan: a positive number is wanted",
    ):
        assert part in message


def test_a_key_that_is_like_no_other_is_told_where_the_keys_are(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    with pytest.raises(ConfigError) as caught:
        RunConfig.from_run_config({**settings, "zzz": 1})
    (line,) = [line for line in str(caught.value).splitlines() if "zzz" in line]
    found = re.fullmatch(
        r"  - unknown key 'zzz'; the nearest are ([a-z-]+), ([a-z-]+), ([a-z-]+), and (\S+) "
        "describes all of them",
        line,
    )
    assert found is not None, line
    assert set(found.groups()[:3]) < set(settings)
    assert (APP / found[4]).is_file()


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ([], {}),
        (
            ["--wire-type", "int8", "--labels", "client", "--batch", "4"],
            {"wire-type": "int8", "labels": "client", "batch-size": 4},
        ),
        (["--seed", "3"], {"seed": 3}),
    ],
    ids=["default", "changed", "seed"],
)
def test_the_plan_of_the_command_line_is_the_plan_of_a_run(
    options: list[str],
    changed: dict[str, Any],
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
):
    from nlg.assemble import strategy_of
    from nlg.run_config import RunConfig

    assert main(["plan", "--model", settings["model"], "--json", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    planned, left_out = report["clients"], report["left_out"]
    strategy = strategy_of(RunConfig.from_run_config({**settings, **changed}))
    strategy.planner.meet_worker(WORKER)
    run = strategy.planner.plan_round(members_of(len(planned) + len(left_out)), {})
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
        ({"model": "no/such-model-here"}, UnsupportedModelError, "no usable model configuration"),
        ({"max-length": 257}, ConfigError, "max-length) is 257: the model has 256 positions"),
        ({"min-cut": 9}, SplitError, "can be cut at 1 to 8"),
    ],
)
def test_what_cannot_work_is_said_before_training(
    settings: dict[str, Any], changed: dict[str, Any], error: type[Exception], message: str
):
    from nlg.assemble import strategy_of
    from nlg.run_config import RunConfig

    config = RunConfig.from_run_config({**settings, **changed})
    with pytest.raises(error, match=re.escape(message)):
        strategy_of(config)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"worker": "ray", "worker-address": "gpu:8600"}, "leave one of the two out"),
        ({"lease-card-gb": 1e6}, "lease-card-gb = 1000000.0: 0 or 1e-05 to 100000 is wanted"),
        ({"lease-card-gb": 1e-6}, "lease-card-gb = 1e-06: 0 or 1e-05 to 100000 is wanted"),
        ({"worker": "ray", "lease-card-gb": 24.0}, "say with num-workers how many"),
        ({"num-workers": 2}, 'num-workers = 2: means something with worker = "ray" only'),
        ({"ray-address": "auto"}, "ray-address = 'auto': means something"),
        ({"worker": "rey"}, "worker = 'rey': one of 'here', 'ray' is wanted"),
        ({"worker": "ray", "num-workers": 2, "worker-port": 65535}, "to 65536, and 65535"),
        ({"worker-address": "localhost"}, "worker-address = 'localhost': HOST:PORT or nothing"),
        ({"worker-address": "http://far:8600"}, "HOST:PORT or nothing is wanted"),
        ({"max-message-mb": 5000}, "max-message-mb = 5000: 1 to 2047 is wanted"),
        ({"rank-unit": 8, "max-rank": 4}, "rank-unit = 8: at most max-rank, 4, is wanted"),
    ],
)
def test_settings_that_contradict_each_other(
    settings: dict[str, Any], changed: dict[str, Any], message: str
):
    from nlg.run_config import RunConfig

    with pytest.raises(ConfigError, match=re.escape(message)):
        RunConfig.from_run_config({**settings, **changed})


def test_a_worker_of_its_own_wants_its_token_where_the_superlink_is(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    from nlg.assemble import _worker
    from nlg.run_config import RunConfig

    monkeypatch.delenv("HSPLIT_OPERATOR_TOKEN", raising=False)
    config = RunConfig.from_run_config({**settings, "worker-address": "far:8600"})
    with pytest.raises(ConfigError, match=r"HSPLIT_OPERATOR_TOKEN.*SuperLink was started"):
        _worker(config)


def test_workers_on_ray_are_started_as_the_settings_say(settings: dict[str, Any]):
    from nlg.assemble import _worker
    from nlg.run_config import RunConfig

    from hsplit_flower.worker.pool import PoolSettings

    changed = {"worker": "ray", "num-workers": 3, "worker-host": "0.0.0.0", "worker-port": 8600}
    pool = _worker(RunConfig.from_run_config({**settings, **changed}))
    assert isinstance(pool, PoolSettings)
    assert pool.num_workers == 3 and pool.may_leave_this_node
    assert pool.worker.port == 8600 and pool.worker.num_threads == settings["worker-threads"]


def test_one_node_is_enough_for_a_round_and_for_its_evaluation(settings: dict[str, Any]):
    from nlg.assemble import strategy_of
    from nlg.run_config import RunConfig

    few = {"min-train-nodes": 1, "min-available-nodes": 1, "fraction-evaluate": 1.0}
    strategy = strategy_of(RunConfig.from_run_config({**settings, **few}))
    assert strategy.min_train_nodes == strategy.min_evaluate_nodes == 1
    assert strategy.min_available_nodes == 1


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


def test_an_unknown_fleet_is_refused_when_the_worker_is_met(settings: dict[str, Any]):
    from nlg.assemble import strategy_of
    from nlg.run_config import RunConfig

    strategy = strategy_of(RunConfig.from_run_config({**settings, "fleet": "huge"}))
    with pytest.raises(ConfigError, match="huge"):
        strategy.planner.meet_worker(WORKER)


def test_a_fleet_that_holds_no_cut_names_its_clients(settings: dict[str, Any]):
    from nlg.assemble import strategy_of
    from nlg.run_config import RunConfig

    strategy = strategy_of(RunConfig.from_run_config({**settings, "fleet": "1MB,2MB"}))
    strategy.planner.meet_worker(WORKER)
    with pytest.raises(InfeasibleBudgetError, match=r"client 0 has 1 MB.*lacks") as caught:
        strategy.planner.plan_round(members_of(2), {})
    assert "client 1 has 2 MB" in str(caught.value)
