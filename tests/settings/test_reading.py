"""From the keys of a run-config to groups of settings, and what is said of those that are wrong."""

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import (
    GROUPS,
    Link,
    Planning,
    Sampling,
    Settings,
    Simulation,
    Training,
    Worker,
    read,
    setting,
)
from hsplit_flower.settings.reading import keys_of
from hsplit_flower.types import Labels, WireType


class Own(Settings):
    """Keys of an app's own."""

    num_rounds: int = setting(3, "How many rounds.", ge=1)


WITH_OWN: dict[str, type[Settings]] = {"": Own, **GROUPS}


def problems(values: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(WITH_OWN, values)
    first, *others = str(caught.value).splitlines()
    counted = "a problem" if len(others) == 1 else f"{len(others)} problems"
    assert first == f"the run-config has {counted}:"
    return [line.removeprefix("  - ") for line in others]


def test_nothing_said_is_all_defaults() -> None:
    assert read(GROUPS, {}) == {name: group() for name, group in GROUPS.items()}


def test_dotted_keys_are_a_group_and_its_field() -> None:
    groups = read(
        WITH_OWN,
        {
            "num-rounds": 7,
            "training.learning-rate": 2e-4,
            "training.labels": "client",
            "planning.max-rank": 8,
            "link.wire-type": "int8",
            "worker.num-workers": 2,
            "worker.placement": "ray",
            "simulation.unavailable": 0.25,
        },
    )
    assert groups[""] == Own(num_rounds=7)
    assert groups["training"] == Training(learning_rate=2e-4, labels=Labels.CLIENT)
    assert groups["planning"] == Planning(max_rank=8)
    assert groups["link"] == Link(wire_type=WireType.INT8)
    assert groups["worker"] == Worker(placement="ray", num_workers=2)
    assert groups["simulation"] == Simulation(unavailable=0.25)
    assert groups["sampling"] == Sampling()


@pytest.mark.parametrize("key", keys_of(WITH_OWN))
def test_an_empty_text_is_the_default_of_whatever_type(key: str) -> None:
    prefix, _, _ = key.rpartition(".")
    assert read(WITH_OWN, {key: ""})[prefix] == WITH_OWN[prefix]()


@pytest.mark.parametrize("key", keys_of(WITH_OWN))
def test_every_key_takes_its_own_default(key: str) -> None:
    prefix, _, _ = key.rpartition(".")
    default = keys_of(WITH_OWN)[key].default
    text = getattr(default, "value", default)
    if text is not None:
        assert read(WITH_OWN, {key: text})[prefix] == WITH_OWN[prefix]()


def test_a_list_is_a_text_with_commas() -> None:
    groups = read(GROUPS, {"planning.target-modules": "q_proj, v_proj"})
    assert groups["planning"] == Planning(target_modules=("q_proj", "v_proj"))


def test_secrets_are_no_keys() -> None:
    assert "worker.operator-token" not in keys_of(GROUPS)
    (problem,) = problems({"worker.operator-token": "a secret"})
    assert problem.startswith("unknown key 'worker.operator-token'")
    assert "a secret" not in problem


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("training.learning-rat", "training.learning-rate"),
        ("learning-rate", "training.learning-rate"),
        ("planning.learning-rate", "training.learning-rate"),
        ("training.max-rank", "planning.max-rank"),
        ("max-rnak", "planning.max-rank"),
        ("sampling.lerning-rate", "training.learning-rate"),
        ("training.num-rounds", "num-rounds"),
        ("num-round", "num-rounds"),
    ],
)
def test_an_unknown_key_is_told_which_one_may_be_meant(key: str, meant: str) -> None:
    assert problems({key: 1}) == [f"unknown key {key!r}, did you mean {meant!r}?"]


def test_a_key_like_no_other_is_told_where_all_are_described() -> None:
    (problem,) = problems({"xyzzy": 1})
    assert problem.startswith("unknown key 'xyzzy'; the nearest are ")
    assert problem.endswith("docs/settings.md describes all of them")


def test_the_problems_of_all_groups_are_in_one_error() -> None:
    assert problems(
        {
            "num-rounds": 0,
            "training.learning-rate": "1e-3",
            "planning.rank-unit": 0,
            "sampling.min-train-nodes": -1,
            "link.wire-type": "float8",
            "colour.blue": 1,
            "worker.port": 99999,
        }
    )[1:] == [
        "num-rounds = 0: 1 or more is wanted",
        "training.learning-rate = '1e-3': a positive number is wanted, "
        "and this is a text: leave out its quotes",
        "planning.rank-unit = 0: 1 or more is wanted",
        "link.wire-type = 'float8': one of 'float32', 'bfloat16', 'float16', 'int8' is wanted",
        "worker.port = 99999: a port from 0 to 65535 is wanted",
        "sampling.min-train-nodes = -1: 0 or more is wanted",
    ]


def test_a_contradiction_within_a_group_is_one_of_the_problems() -> None:
    said = problems({"planning.rank-unit": 8, "planning.max-rank": 4, "num-rounds": 0})
    assert said[0] == "num-rounds = 0: 1 or more is wanted"
    assert "8 and 4" in said[1]


def test_whose_problems_they_are_is_said() -> None:
    with pytest.raises(ConfigError, match=r"^the options has a problem:"):
        read(GROUPS, {"training.batch-size": 0}, subject="the options")
