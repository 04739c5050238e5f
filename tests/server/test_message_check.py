"""A run whose messages are too large is refused when it is planned, with what would fit."""

from dataclasses import replace
from typing import Any

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.methods import FED_LORA, HSPLIT_LORA, SPLIT_LORA, Method
from hsplit_flower.server.message_check import check_messages
from hsplit_flower.server.round_planner import RoundPlanner
from hsplit_flower.settings import Link, RunSettings, Training
from hsplit_flower.settings.link import MEBIBYTE
from hsplit_flower.types import WireType
from tests.families import FAMILIES
from tests.rounds import architecture

WIDTH = 4096


def _settings(link: dict[str, Any] | None = None, **training: Any) -> RunSettings:
    recipe = {"batch_size": 16, "sequence_length": 512, **training}
    return RunSettings(training=Training(**recipe), link=Link(**(link or {})))


@pytest.mark.parametrize(
    ("settings", "method", "ways"),
    [
        (
            _settings(),
            HSPLIT_LORA,
            "training.micro-batch-size = 7, or link.max-message-mb = 129, or link.wire-type = "
            "'bfloat16'",
        ),
        (
            _settings({"wire_type": "bfloat16", "wire_gradient_type": "float32"}),
            HSPLIT_LORA,
            "training.micro-batch-size = 7, or link.max-message-mb = 129",
        ),
        (
            _settings({"wire_type": "bfloat16", "max_message_mb": 32}),
            SPLIT_LORA,
            "training.batch-size = 7, or link.max-message-mb = 65",
        ),
        (
            _settings({"wire_type": "int8", "max_message_mb": 1}, sequence_length=2**20),
            HSPLIT_LORA,
            "training.sequence-length = 254",
        ),
    ],
)
def test_what_would_fit_is_named(settings: RunSettings, method: Method, ways: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_messages(settings, method, WIDTH)
    assert str(caught.value).endswith(f": set {ways}")


def test_the_smaller_limit_of_a_worker_that_runs_already_is_the_one_to_fit() -> None:
    settings = _settings({"max_message_mb": 129})
    with pytest.raises(ConfigError) as caught:
        check_messages(settings, HSPLIT_LORA, WIDTH, worker_bytes=32 * MEBIBYTE)
    assert str(caught.value).endswith(
        "and the largest that the worker takes is 32: set training.micro-batch-size = 3, or "
        "--max-message-mb = 129 where the worker is started, or link.wire-type = 'bfloat16'"
    )
    check_messages(settings, HSPLIT_LORA, WIDTH, worker_bytes=200 * MEBIBYTE)
    check_messages(_settings(micro_batch_size=3), HSPLIT_LORA, WIDTH, worker_bytes=32 * MEBIBYTE)


def test_what_fits_is_let_pass_and_so_are_runs_without_messages() -> None:
    check_messages(_settings(micro_batch_size=7), HSPLIT_LORA, WIDTH)
    check_messages(_settings({"max_message_mb": 129}), HSPLIT_LORA, WIDTH)
    check_messages(_settings({"max_message_mb": 1}), FED_LORA, WIDTH)


def test_it_is_refused_where_plans_are_made() -> None:
    config = FAMILIES["llama"].config()
    wide = replace(architecture("llama"), hidden_size=2**18)
    settings = RunSettings(
        training=Training(batch_size=9, sequence_length=9),
        link=Link(max_message_mb=2, wire_type=WireType.BFLOAT16),
    )
    with pytest.raises(ConfigError, match="9 examples of 9 tokens at a time are messages of 41 MB"):
        RoundPlanner(config, wide, settings, HSPLIT_LORA)
