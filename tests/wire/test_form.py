"""What is no tensor crosses the wire as text, and comes back as it was or not at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.errors import CodecError
from hsplit_flower.settings import SessionSpec, Settings
from hsplit_flower.types import LONGEST_ROUND_SECONDS, WorkerDescription
from hsplit_flower.wire.form import MOST_CHARACTERS, VERSION, from_text, to_text
from hsplit_flower.wire.instructions import Instructions
from hsplit_flower.wire.proto.split_pb2 import Form
from tests.wire.values import DESCRIPTION, INSTRUCTIONS, SPEC


def _text(changes: dict[str, Any], value: Any = SPEC) -> str:
    """The text of a value in which some things are not what they were."""
    form = json.loads(to_text(value))
    form["content"] |= changes
    return json.dumps(form)


@pytest.mark.parametrize("value", [SPEC, INSTRUCTIONS], ids=["session", "instructions"])
def test_the_examples_say_every_field(value: Settings) -> None:
    for field in type(value).known():
        if not field.is_required:
            assert getattr(value, field.name) != field.default, f"{field.name} is too plain"


@pytest.mark.parametrize(
    "value",
    [SPEC, SessionSpec(client=0, cut=1), INSTRUCTIONS, DESCRIPTION],
    ids=["session", "plain session", "instructions", "description"],
)
def test_values_come_back(value: Any) -> None:
    message = Form.FromString(Form(text=to_text(value)).SerializeToString())
    got = from_text(type(value), message.text)
    assert got == value
    assert type(got) is type(value)


def test_choices_come_back_as_what_they_are() -> None:
    got = from_text(SessionSpec, to_text(SPEC))
    for name in ("labels", "start", "scale_rule", "wire_type", "wire_gradient_type"):
        assert getattr(got, name) is getattr(SPEC, name)


@given(
    client=st.integers(0, 2**64 - 1),
    rate=st.floats(1e-300, 1e300),
    ranks=st.dictionaries(st.text(max_size=9), st.integers(0, 2**31), max_size=4),
)
def test_numbers_and_names_come_back_to_the_last_bit(
    client: int, rate: float, ranks: dict[str, int]
) -> None:
    spec = SessionSpec(client=client, cut=1, learning_rate=rate, ranks=ranks)
    assert from_text(SessionSpec, to_text(spec)) == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "nowhere"},
        {"start": ""},
        {"wire_type": "float8"},
        {"wire_type": None},
        {"wire_gradient_type": "float8"},
        {"lora_alpha": 0.0},
        {"scale_rule": "none"},
        {"in_flight": 0},
        {"in_flight": 4.0},
        {"round_timeout_seconds": 0.0},
        {"round_timeout_seconds": float("inf")},
        {"round_timeout_seconds": 1.01 * LONGEST_ROUND_SECONDS},
        {"max_tokens": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": "1e-3"},
        {"weight_decay": -1.0},
        {"ranks": {"a": -1}},
        {"ranks": {"a": "4"}},
        {"ranks": [4]},
        {"client": -1},
        {"train": 1},
    ],
)
def test_a_value_beyond_its_limits_is_refused_by_its_fields_name(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(CodecError, match=rf"(?s)this is no SessionSpec: .*\b{name} must be "):
        from_text(SessionSpec, _text(changes))


def test_a_field_that_is_not_known_is_refused() -> None:
    with pytest.raises(CodecError, match=r"no SessionSpec: .*there is no 'colour': the fields are"):
        from_text(SessionSpec, _text({"colour": "blue"}))


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        (SessionSpec, SPEC, "cut"),
        (Instructions, INSTRUCTIONS, "session"),
        (WorkerDescription, DESCRIPTION, "memory_bytes"),
    ],
)
def test_a_field_that_is_missing_is_named(kind: type[Any], value: Any, name: str) -> None:
    form = json.loads(to_text(value))
    del form["content"][name]
    with pytest.raises(CodecError, match=rf"(?s)no {kind.__name__}: .*\b{name}\b"):
        from_text(kind, json.dumps(form))


def test_one_value_is_not_another() -> None:
    with pytest.raises(CodecError, match="this is no WorkerDescription"):
        from_text(WorkerDescription, to_text(SPEC))


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None])
def test_another_version_is_refused_whatever_is_in_it(version: object) -> None:
    text = json.dumps({"version": version, "content": "of another time"})
    wanted = f"a SessionSpec of version {version!r}, {VERSION} is wanted: install the same"
    with pytest.raises(CodecError, match=wanted):
        from_text(SessionSpec, text)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "7", '"text"', "{}", '{"version": 1}', '{"content": {}}', "[" * 10**5],
    ids=lambda text: text[:20] or "nothing",
)
def test_what_is_no_form_is_refused(text: str) -> None:
    with pytest.raises(CodecError, match="this is no SessionSpec"):
        from_text(SessionSpec, text)


@given(content=st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_nothing_else_is_ever_raised(content: object) -> None:
    text = json.dumps({"version": VERSION, "content": content})
    with pytest.raises(CodecError):
        from_text(SessionSpec, text)


def test_a_text_beyond_all_measure_is_not_read() -> None:
    with pytest.raises(CodecError, match=f"at most {MOST_CHARACTERS} are read"):
        from_text(SessionSpec, " " * (MOST_CHARACTERS + 1))


def test_an_error_carries_little_of_what_somebody_else_has_sent() -> None:
    with pytest.raises(CodecError) as caught:
        from_text(SessionSpec, _text({"labels": "x" * 10**6, "ranks": {"y" * 10**4: -1}}))
    assert str(caught.value).count("x") < 200
    assert len(str(caught.value)) < 1100


def test_what_has_no_end_comes_back() -> None:
    endless = WorkerDescription(**{**vars(DESCRIPTION), "memory_bytes": float("inf")})
    assert from_text(WorkerDescription, to_text(endless)) == endless
