"""Settings of a channel."""

import math

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Link
from hsplit_flower.transport.channel import ChannelSettings, message_options


@pytest.mark.parametrize(
    "name", ["max_message_bytes", "step_timeout_seconds", "num_tries", "pause_seconds"]
)
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a positive number, got {value}"):
        ChannelSettings(**{name: value})


def test_messages_are_bounded_in_both_directions() -> None:
    assert {name for name, _ in message_options(7)} == {
        "grpc.max_receive_message_length",
        "grpc.max_send_message_length",
    }
    assert {value for _, value in message_options(7)} == {7}


def test_they_are_those_of_the_runs_link() -> None:
    settings = ChannelSettings.of(Link(max_message_mb=3, step_timeout_seconds=7.5))
    assert (settings.max_message_bytes, settings.step_timeout_seconds) == (3 * 2**20, 7.5)
    assert ChannelSettings.of(Link()) == ChannelSettings()
