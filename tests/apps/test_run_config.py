"""The app's settings: everything that is wrong is said at once, before anything starts."""

import re
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.errors import (
    ConfigError,
)

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("app_on_the_path")


def test_the_apps_own_settings_are_read(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    config = RunConfig.from_run_config(settings)
    assert config.run.model.name == "llama-tiny"
    assert config.run.training.learning_rate == 8e-3


def test_what_is_not_said_has_the_fields_default(settings: dict[str, Any]):
    from nlg.run_config import App, RunConfig

    from hsplit_flower.settings import RunSettings

    assert RunConfig.from_run_config({}) == RunConfig(app=App(), run=RunSettings())
    nothing = dict.fromkeys(settings, "")
    assert RunConfig.from_run_config(nothing) == RunConfig(app=App(), run=RunSettings())


def test_lists_are_said_with_commas(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    config = RunConfig.from_run_config({**settings, "planning.target-modules": "q_proj, up_proj"})
    assert config.run.planning.target_modules == ("q_proj", "up_proj")


def test_all_problems_are_reported_at_once(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    wrong = {
        "training.learnin-rate": 1.0,
        "training.batch-size": "16",
        "training.lora-alpha": 0,
        "training.labels": "nobody",
        "training.seed": -1,
        "sampling.fraction-train": 1.5,
        "server-evaluation": 1,
        "link.step-timeout-seconds": float("nan"),
        "aggregation.momentum": 1.0,
        "momentum": 0.5,
    }
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_run_config({**settings, **wrong})
    message = str(caught.value)
    assert message.startswith("the run-config has 10 problems")
    for part in (
        "unknown key 'training.learnin-rate', did you mean 'training.learning-rate'?",
        "unknown key 'momentum', did you mean 'aggregation.momentum'?",
        "training.batch-size = '16': a whole number of 1 or more is wanted",
        "training.lora-alpha = 0: a positive number is wanted",
        "training.labels = 'nobody': one of 'server', 'client' is wanted",
        "training.seed = -1: 0 or more is wanted",
        "sampling.fraction-train = 1.5: a fraction from 0 to 1 is wanted",
        "server-evaluation = 1: true or false is wanted",
        "aggregation.momentum = 1.0: a number from 0 to below 1 is wanted",
        "link.step-timeout-seconds = nan: a positive number of at most 604800 is wanted",
    ):
        assert part in message


def test_a_key_that_is_like_no_other_is_told_where_the_keys_are(settings: dict[str, Any]):
    from nlg.run_config import RunConfig

    with pytest.raises(ConfigError) as caught:
        RunConfig.from_run_config({**settings, "zzz": 1})
    (line,) = [line for line in str(caught.value).splitlines() if "zzz" in line]
    found = re.fullmatch(
        r"  - unknown key 'zzz'; the nearest are ([a-z.-]+), ([a-z.-]+), ([a-z.-]+), and (\S+) "
        "describes all of them",
        line,
    )
    assert found is not None, line
    assert set(found.groups()[:3]) < set(settings)
    assert (ROOT / found[4]).is_file()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"worker.placement": "ray", "worker.address": "gpu:8600"},
            "leave one of the two out",
        ),
        (
            {"simulation.lease-card-gb": 1e6},
            "simulation.lease-card-gb = 1000000.0: 0 or 1e-05 to 100000 is wanted",
        ),
        (
            {"simulation.lease-card-gb": 1e-6},
            "simulation.lease-card-gb = 1e-06: 0 or 1e-05 to 100000 is wanted",
        ),
        (
            {"worker.placement": "ray", "simulation.lease-card-gb": 24.0},
            "say with worker.num-workers how many",
        ),
        (
            {"worker.num-workers": 2},
            'worker.num-workers = 2: means something with worker.placement = "ray" only',
        ),
        ({"worker.ray-address": "auto"}, "ray-address = 'auto': means something"),
        ({"worker.placement": "rey"}, "worker.placement = 'rey': one of 'here', 'ray' is wanted"),
        (
            {"worker.placement": "ray", "worker.num-workers": 2, "worker.port": 65535},
            "to 65536, and 65535",
        ),
        (
            {"worker.address": "localhost"},
            "worker.address = 'localhost': HOST:PORT, with a port up to 65535, or nothing",
        ),
        ({"worker.address": "http://far:8600"}, "up to 65535, or nothing is wanted"),
        ({"link.max-message-mb": 5000}, "link.max-message-mb = 5000: 1 to 2047 is wanted"),
        (
            {"planning.rank-unit": 8, "planning.max-rank": 4},
            "planning.rank-unit must be between 1 and planning.max-rank, got 8 and 4",
        ),
    ],
)
def test_settings_that_contradict_each_other(
    settings: dict[str, Any], changed: dict[str, Any], message: str
):
    from nlg.run_config import RunConfig

    with pytest.raises(ConfigError, match=re.escape(message)):
        RunConfig.from_run_config({**settings, **changed})
