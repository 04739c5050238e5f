"""A group of settings: each field said once, checked when it is made, refused in plain words."""

import datetime
import threading
import time
from enum import Enum
from typing import Any, Literal

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import (
    GROUPS,
    Link,
    Planning,
    Sampling,
    SessionSpec,
    Settings,
    Simulation,
    Training,
    Worker,
    setting,
)
from hsplit_flower.settings.fields import Known, kinds_of
from hsplit_flower.settings.group import in_python
from hsplit_flower.types import Labels, ScaleRule, Start, WireType
from tests.settings.groups import ALL, FIELDS, NAMES, required

CHOICES = [
    (group, field)
    for group, field in FIELDS
    if any(
        issubclass(kind, Enum) for kind in kinds_of(field.info.annotation) if isinstance(kind, type)
    )
]


class Colour(str, Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Paint(Settings):
    """A field of each kind."""

    litres: float = setting(1.0, "How much.", unit="litres", gt=0)
    layers: int = setting(2, "How often.", ge=1)
    colour: Colour = setting(Colour.RED, "Which.", strict=False)
    finish: Literal["matt", "gloss"] = setting("matt", "How it shines.")
    is_wet: bool = setting(False, "Whether not to be touched.")
    name: str = setting("", "What it is called.")
    link: Link = setting(Link(), "A group in a group.")
    code: str = setting("", "Opens the shop.", secret=True)


@pytest.mark.parametrize(("group", "field"), FIELDS, ids=NAMES)
def test_every_field_is_described_and_says_what_it_wants(
    group: type[Settings], field: Known
) -> None:
    assert field.description.endswith(".")
    assert len(field.description) > 5
    assert field.wanted
    assert group.__doc__


@pytest.mark.parametrize(("group", "field"), FIELDS, ids=NAMES)
def test_every_default_is_a_value_that_may_be_given(group: type[Settings], field: Known) -> None:
    if field.is_required:
        said = f"{field.name} is missing: {field.wanted} is wanted"
        assert said in group.read({}, in_python)[1]
        return
    made, problems = group.read({**required(group), field.name: field.default}, in_python)
    assert not problems
    assert getattr(made, field.name) == field.default == group.default_of(field.name)


SECONDS = [field for _, field in FIELDS if field.unit == "seconds"]


@pytest.mark.parametrize("field", SECONDS, ids=lambda field: field.name)
def test_nothing_is_waited_for_longer_than_a_clock_can_count(field: Known) -> None:
    most = field.limits["le"]
    assert most <= threading.TIMEOUT_MAX
    # A call over gRPC ends at a time of the system's clock.
    assert datetime.datetime.fromtimestamp(time.time() + most)


@pytest.mark.parametrize("group", GROUPS.values(), ids=list(GROUPS))
def test_a_group_of_defaults_can_be_made(group: type[Settings]) -> None:
    made = group()
    assert made == group(**made.given())
    assert made.replace() == made


@pytest.mark.parametrize("group", ALL, ids=lambda group: group.__name__)
def test_secrets_have_no_key_and_are_not_shown(group: type[Settings]) -> None:
    secrets = {field.name for field in group.known() if field.is_secret}
    assert secrets == {"Worker": {"operator_token"}, "Instructions": {"token"}}.get(
        group.__name__, set()
    )


@pytest.mark.parametrize(
    ("limits", "whole", "wanted"),
    [
        ({"gt": 0}, False, "a positive number"),
        ({"gt": 0}, True, "a positive whole number"),
        ({"ge": 0}, False, "0 or more"),
        ({"ge": 3}, True, "3 or more"),
        ({"ge": 0, "le": 1}, False, "0 to 1"),
        ({"ge": 0, "lt": 1}, False, "a number from 0 to below 1"),
        ({"gt": 0, "lt": 1}, False, "a number between 0 and 1"),
        ({"gt": 0, "le": 9}, False, "a positive number of at most 9"),
        ({}, False, "a number"),
        ({}, True, "a whole number"),
    ],
)
def test_limits_are_put_into_words(limits: dict[str, float], whole: bool, wanted: str) -> None:
    kind = int if whole else float

    class Made(Settings):
        value: kind = setting(..., "A number.", **limits)  # type: ignore[valid-type]

    (field,) = Made.known()
    assert field.wanted == wanted
    told = f"{field.kind} of {wanted}" if wanted[0].isdigit() else wanted
    with pytest.raises(ConfigError, match=rf"^Made: value must be {told}, got 'a'$"):
        Made(value="a")


def test_types_are_put_into_words() -> None:
    assert {field.name: field.wanted for field in Paint.known()} == {
        "litres": "a positive number",
        "layers": "1 or more",
        "colour": "one of 'red', 'blue'",
        "finish": "one of 'matt', 'gloss'",
        "is_wet": "true or false",
        "name": "text",
        "link": "a group of settings, Link(...)",
        "code": "text",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("litres", "1e-3"),
        ("litres", float("nan")),
        ("litres", float("inf")),
        ("litres", 0),
        ("litres", True),
        ("layers", 2.0),
        ("layers", True),
        ("layers", "2"),
        ("colour", "green"),
        ("colour", None),
        ("finish", "silk"),
        ("is_wet", 1),
        ("is_wet", "true"),
        ("name", 7),
        ("link", {"in_flight": 0}),
        ("link", "fast"),
    ],
)
def test_a_wrong_value_is_refused_by_name_with_what_is_wanted(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Paint(**{name: value})
    wanted = next(field.wanted for field in Paint.known() if field.name == name)
    if isinstance(value, dict):
        assert "in_flight must be 1 or more, got 0" in str(caught.value)
    else:
        if name == "layers":
            wanted = f"a whole number of {wanted}"
        assert str(caught.value) == f"Paint: {name} must be {wanted}, got {value!r}"


def test_a_whole_number_is_a_number() -> None:
    assert Paint(litres=2).litres == 2.0


def test_a_choice_may_be_given_as_its_text() -> None:
    assert Paint(colour="blue").colour is Colour.BLUE
    training = Training(labels="client", start="restart", scale_rule="rslora")
    assert (training.labels, training.start) == (Labels.CLIENT, Start.RESTART)
    assert training.scale_rule is ScaleRule.RSLORA
    assert Link(wire_type="int8").wire_type is WireType.INT8
    assert Link(wire_type=None).wire_type is None


@pytest.mark.parametrize(("group", "field"), CHOICES)
def test_every_choice_of_every_group_may_be(group: type[Settings], field: Known) -> None:
    """A text that stays one is found out late, where its name or value is asked for."""
    for value in field.choices:
        made = getattr(group(**{**required(group), field.name: value}), field.name)
        assert isinstance(made, Enum) and made.value == value


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Paint(litres=-1.0, layers=0, colour="green", tin=7)
    assert str(caught.value).splitlines() == [
        "Paint has 4 problems:",
        "  - litres must be a positive number, got -1.0",
        "  - layers must be 1 or more, got 0",
        "  - colour must be one of 'red', 'blue', got 'green'",
        "  - there is no 'tin': the fields are litres, layers, colour, finish, is_wet, name, link, "
        "code",
    ]


def test_an_unknown_field_lists_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="there is no 'lr': the fields are learning_rate, sch"):
        Training(lr=1e-3)


def test_a_field_that_must_be_given_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        SessionSpec()
    assert "client is missing: 0 or more is wanted" in str(caught.value)
    assert "cut is missing: 0 or more is wanted" in str(caught.value)


def test_fewer_nodes_than_none_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(min_train_nodes=-1, min_evaluate_nodes=-1, min_available_nodes=-1)
    for name in ("min_train_nodes", "min_evaluate_nodes", "min_available_nodes"):
        assert f"{name} must be 0 or more, got -1" in str(caught.value)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), (0.5, 2.0), "often"])
def test_a_device_is_away_with_a_probability(share: object) -> None:
    """It is refused where it is said, not in the middle of a run."""
    with pytest.raises(ConfigError, match="unavailable must be a fraction from 0 to 1, got"):
        Simulation(unavailable=share)


def test_fields_that_contradict_each_other_are_named() -> None:
    with pytest.raises(ConfigError, match="rank_unit must be between 1 and max_rank, got 8 and 4"):
        Planning(rank_unit=8, max_rank=4)
    with pytest.raises(ConfigError, match=r"address = 'a:1': workers are started on Ray, or one"):
        Worker(placement="ray", address="a:1")
    with pytest.raises(ConfigError, match="means something with placement"):
        Worker(num_workers=2)


def test_a_group_is_frozen_and_replaced_with_what_is_checked_again() -> None:
    paint = Paint(layers=3)
    with pytest.raises(ValueError, match="frozen"):
        paint.layers = 4  # type: ignore[misc]
    assert paint.replace(litres=2.0) == Paint(layers=3, litres=2.0)
    with pytest.raises(ConfigError, match="litres must be a positive number, got 0"):
        paint.replace(litres=0)
    assert paint == Paint(layers=3)


def test_what_was_given_is_told_from_what_is_a_default() -> None:
    paint = Paint(layers=2).replace(name="a")
    assert paint.model_fields_set == {"layers", "name"}
    assert paint.given() == {
        **Paint().given(),
        "name": "a",
    }


def test_what_is_shown_is_plain_and_without_secrets() -> None:
    shown = Paint(code="sesame", colour="blue", link=Link(wire_type="int8")).shown()
    assert shown["colour"] == "blue"
    assert shown["is-wet"] is False
    assert shown["link"]["wire-type"] == "int8"
    assert "code" not in shown
    assert "sesame" not in f"{shown} {Paint(code='sesame')!r}"
