"""Settings of a channel, and where its credentials go."""

import math
from contextlib import closing

import grpc
import pytest
import torch

from hsplit_flower.errors import ConfigError
from hsplit_flower.transport.channel import ChannelSettings, message_options, token_metadata
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.types import SessionSpec, WireType
from hsplit_flower.wire.messages import Forward
from hsplit_flower.worker.service import serve
from tests.families import fields
from tests.workers import load_worker, split_worker


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


def test_a_token_is_one_entry_of_the_metadata() -> None:
    assert token_metadata("key", "secret") == (("key", "secret"),)


def test_credentials_go_to_both_ends() -> None:
    """Those of gRPC for the loopback stand for TLS."""
    worker = split_worker(load_worker("gpt2"))
    spec = SessionSpec(client=0, cut=2, ranks={})
    server, port = serve(
        worker, host="127.0.0.1", port=0, credentials=grpc.local_server_credentials()
    )
    settings = ChannelSettings(credentials=grpc.local_channel_credentials())
    forward = Forward(step=1, hidden=torch.randn(3, 9, 16), labels=fields()["labels"])
    try:
        token = worker.open(spec)
        address = f"127.0.0.1:{port}"
        with closing(GrpcStream(address, token, WireType.FLOAT32, settings)) as stream:
            assert stream.exchange(forward).step == 1
    finally:
        server.stop(grace=None).wait()
        worker.stop()
