"""Settings of a channel."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Link
from hsplit_flower.transport.channel import (
    MOST_PAUSE_SECONDS,
    ChannelSettings,
    message_options,
    open_channel,
)
from tests.transport.one_session import free_port


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


def _seconds_until_served(silence_seconds: float) -> float:
    """How long after a worker is back its caller is served, who has tried all the time."""
    address = f"127.0.0.1:{free_port()}"
    with closing(open_channel(address, ChannelSettings())) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check

        def is_served() -> bool:
            try:
                check(health_pb2.HealthCheckRequest(), timeout=1.0)
            except grpc.RpcError:
                return False
            return True

        silent_until = time.monotonic() + silence_seconds
        while time.monotonic() < silent_until:
            assert not is_served()
            time.sleep(0.5)
        server = grpc.server(ThreadPoolExecutor(1))
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        server.add_insecure_port(address)
        server.start()
        began = time.monotonic()
        while not is_served():
            time.sleep(0.05)
        server.stop(None)
        return time.monotonic() - began


@pytest.mark.long
def test_a_worker_that_is_back_after_long_is_connected_to_soon() -> None:
    """By itself gRPC doubles its pauses: after half a minute they are of ten seconds and more."""
    silences = (20.0, 25.0, 30.0, 35.0, 40.0, 45.0)
    with ThreadPoolExecutor(len(silences)) as callers:
        assert max(callers.map(_seconds_until_served, silences)) < MOST_PAUSE_SECONDS
