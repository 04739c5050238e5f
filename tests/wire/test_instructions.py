"""An order comes back from the scalars that a Flower message carries."""

from dataclasses import fields
from typing import Any

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.types import SessionSpec
from hsplit_flower.wire.instructions import Instructions
from tests.wire.test_factors import SPEC

ORDER = Instructions(
    server_round=3,
    num_examples=17,
    model="owner/model",
    revision="v2",
    dtype="bfloat16",
    attention="sdpa",
    address="[::1]:8600",
    token="a token",
    probe=True,
    max_message_bytes=2**26,
    step_timeout_seconds=1.5,
    session=SPEC,
)


def test_an_order_comes_back_from_a_message() -> None:
    config = ORDER.to_config()
    assert {type(value) for value in config.values()} <= {str, int, float, bool}
    assert Instructions.from_config(config) == ORDER


def test_the_keys_are_kebab_case_and_one_for_each_field() -> None:
    names = [field.name for field in (*fields(Instructions), *fields(SessionSpec))]
    names.remove("session")
    assert set(ORDER.to_config()) == {name.replace("_", "-") for name in names}
    assert len(names) == len(set(names)), "a field of the order hides one of the session"


@pytest.mark.parametrize("key", sorted(ORDER.to_config()))
def test_a_key_that_is_missing_is_named(key: str) -> None:
    config = ORDER.to_config()
    del config[key]
    with pytest.raises(ConfigError, match=f"'hsplit-instructions' record lacks '{key}'.*same version"):
        Instructions.from_config(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", "nowhere"),
        ("start", "again"),
        ("wire-type", "float8"),
        ("wire-gradient-type", "float8"),
        ("ranks", "{"),
        ("scale-rule", "none"),
        ("lora-alpha", 0.0),
    ],
)
def test_a_value_that_cannot_be_read_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="'hsplit-instructions' record cannot be read"):
        Instructions.from_config(ORDER.to_config() | {key: value})
