"""Instructions come back from the one text that a Flower message carries."""

import json
from typing import Any

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.wire.instructions import Instructions
from tests.wire.values import INSTRUCTIONS


def _with(**changes: Any) -> dict[str, Any]:
    """The record of instructions in which something is not what it was, by group and field."""
    form = json.loads(INSTRUCTIONS.to_config()["text"])
    for name, value in changes.items():
        group, _, field = name.rpartition("__")
        (form["content"][group] if group else form["content"])[field] = value
    return {"text": json.dumps(form)}


def test_instructions_come_back_from_a_message() -> None:
    config = INSTRUCTIONS.to_config()
    assert {type(value) for value in config.values()} <= {str, int, float, bool}
    assert Instructions.from_config(config) == INSTRUCTIONS


def test_the_token_is_in_the_message_and_never_shown() -> None:
    told = INSTRUCTIONS.replace(token="a secret")
    assert Instructions.from_config(told.to_config()).token == "a secret"
    assert "a secret" not in repr(told)
    assert "a secret" not in str(told)
    assert "a secret" not in json.dumps(told.shown())


def test_a_record_without_the_text_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"'hsplit-instructions' record lacks 'text'.*same vers"):
        Instructions.from_config({"wire-type": "float32"})


@pytest.mark.parametrize("name", ["server_round", "num_examples", "model", "link", "session"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    form = json.loads(INSTRUCTIONS.to_config()["text"])
    del form["content"][name]
    with pytest.raises(ConfigError, match=rf"(?s)record cannot be read: .*\b{name} is missing"):
        Instructions.from_config({"text": json.dumps(form)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session__labels", "nowhere"),
        ("session__start", "again"),
        ("session__wire_type", "float8"),
        ("session__wire_gradient_type", "float8"),
        ("session__ranks", "{"),
        ("session__scale_rule", "none"),
        ("session__lora_alpha", 0.0),
        ("model__dtype", "int7"),
        ("link__max_message_mb", 0),
        ("lease_gpu_fraction", 1.5),
        ("budget_bytes", "1e9"),
        ("colour", "blue"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_by_name(name: str, value: Any) -> None:
    field = name.rpartition("__")[2]
    wanted = rf"(?s)'hsplit-instructions' record cannot be read: .*\b{field}\b"
    with pytest.raises(ConfigError, match=wanted):
        Instructions.from_config(_with(**{name: value}))


def test_another_version_says_what_to_do() -> None:
    text = INSTRUCTIONS.to_config()["text"].replace('"version": 1', '"version": 7')
    with pytest.raises(ConfigError, match="of version 7, 1 is wanted: install the same"):
        Instructions.from_config({"text": text})
