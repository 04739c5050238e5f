"""Instructions of a server that may be anybody: what they may ask, and what they are told."""

import importlib.util
import logging
import math
from pathlib import Path

import pytest

from hsplit_flower.client.instructions_check import (
    BYTES_A_NUMBER,
    check_part,
    checked_base,
    in_our_words,
)
from hsplit_flower.errors import AdapterError, ConfigError, HSplitError, UnsupportedModelError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Parts, load_half
from hsplit_flower.types import Span
from tests.rounds import architecture

FAMILY = "llama"
BELOW = Span(start=0, stop=2)
"""What the client holds of three blocks."""


def _spec(ranks: dict[str, int]) -> SessionSpec:
    return SessionSpec(client=1, cut=2, ranks=ranks)


def _wanted_bytes(rank: int) -> int:
    """What training the client's factors takes, counted by hand: weight, gradient, two moments."""
    weights = architecture(FAMILY).weights_in(BELOW)
    return sum(4 * 4 * rank * (w.in_features + w.out_features) for w in weights)


def test_adapters_are_held_to_what_the_device_grants_to_the_byte() -> None:
    shape = architecture(FAMILY)
    spec = _spec({weight.name: 3 for weight in shape.weights})
    wanted = _wanted_bytes(3)
    check_part(spec, shape, BELOW, wanted)
    check_part(spec, shape, BELOW, math.inf)
    with pytest.raises(AdapterError, match=r"this device grants .*: lower ranks are wanted"):
        check_part(spec, shape, BELOW, wanted - 1)
    assert BYTES_A_NUMBER == 16


def test_weights_that_the_worker_holds_cost_this_device_nothing() -> None:
    shape = architecture(FAMILY)
    above = {w.name for w in shape.weights} - {w.name for w in shape.weights_in(BELOW)}
    assert above
    check_part(_spec(dict.fromkeys(above, 3)), shape, BELOW, 0)


@pytest.mark.parametrize("rank", [2**31, 2**62])
def test_ranks_that_no_weight_can_have_are_refused_before_they_are_made(rank: int) -> None:
    shape = architecture(FAMILY)
    name = shape.weights[0].name
    with pytest.raises(AdapterError, match=f"rank {rank} for '{name}'"):
        check_part(_spec({name: rank}), shape, BELOW, math.inf)


def test_weights_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(AdapterError, match="the model has no weights"):
        check_part(_spec({"etc.passwd": 1}), architecture(FAMILY), BELOW, math.inf)


def _refusal_of_loading(name: str) -> str:
    with pytest.raises(HSplitError) as refused, in_our_words(name):
        load_half(name, Parts.of_client(1, keeps_labels=False))
    assert refused.value.__cause__ is None
    return str(refused.value)


def test_nobody_learns_whether_a_file_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = tmp_path / "salaries"
    there.mkdir()
    (there / "config.json").write_text('{"secret": "tell nobody"}', encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        said = {_refusal_of_loading(str(path)) for path in (there, tmp_path / "not-there")}
    assert len(said) == 1, "the same is told of both"
    (told,) = said
    for secret in ("salaries", "not-there", str(tmp_path), "tell nobody"):
        assert secret not in told
    # Whoever runs this device reads what was wrong.
    assert "salaries" in caplog.text
    assert "not-there" in caplog.text


@pytest.mark.parametrize("name", ["/etc/passwd", "./here", "~/there", "a/b/c", "../up"])
def test_a_path_is_known_by_its_look(name: str) -> None:
    with pytest.raises(UnsupportedModelError) as refused, in_our_words(name):
        raise UnsupportedModelError(f"{name} has no config.json")
    assert name not in str(refused.value)
    assert "its log says why" in str(refused.value)


def test_what_is_wrong_with_a_public_model_is_told() -> None:
    with (
        pytest.raises(UnsupportedModelError, match="two hidden states"),
        in_our_words("somebody/model"),
    ):
        raise UnsupportedModelError("two hidden states pass")


def test_a_foreign_error_becomes_ours_and_keeps_its_words_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ConfigError, match=r"\(OSError\); its log says why") as refused:  # noqa: SIM117
        with in_our_words("somebody/model"):
            raise OSError("cannot open /home/bank/accounts.csv")
    assert "accounts" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert "accounts.csv" in caplog.text


def test_errors_of_ours_pass_as_they_are() -> None:
    error = AdapterError("lower ranks are wanted")
    with pytest.raises(AdapterError) as refused, in_our_words("/a/path"):
        raise error
    assert refused.value is error


def test_a_device_without_what_quantises_says_so_before_it_is_planned_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked_base("llama-tiny", revision="", dtype="float32", quantised="nf4")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name)
    )
    assert checked_base("llama-tiny", revision="", dtype="float32").tensors
    with pytest.raises(ConfigError, match=r"pip install 'hsplit-flower\[quantised\]'"):
        checked_base("llama-tiny", revision="", dtype="float32", quantised="nf4")
