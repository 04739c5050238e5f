"""The three functions of a ClientApp, called with real messages and answered by a real worker."""

import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from torch import Tensor

from benchmarks.tools.threads import be_the_server
from hsplit_flower import StepDone
from hsplit_flower.adapters import from_state_dict, to_state_dict
from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound, round_setup
from hsplit_flower.client.app import describe_device, split_evaluate, split_train
from hsplit_flower.devices import machine_profile
from hsplit_flower.settings import Link, Model, SessionSpec
from hsplit_flower.simulation.lease import leased
from hsplit_flower.types import DeviceProfile, Labels, WireType
from hsplit_flower.wire.instructions import (
    IMPORTANCE_KEY,
    INSTRUCTIONS_KEY,
    METRICS_KEY,
    PROFILE_KEY,
    QUERY_KEY,
    UPDATE_KEY,
    Instructions,
)
from tests.families import checkpoint, fields
from tests.rounds import architecture, below, global_update, ranks
from tests.workers import Worker, exchange, in_process, load_client, running_worker

FAMILY = "llama"
CUT = 2
NODE = 13816022929839679101
MODEL = Model(name=str(checkpoint(FAMILY)))
SPEC = SessionSpec(client=NODE, cut=CUT, ranks=ranks(FAMILY), learning_rate=5e-3, seed=4)
BATCHES = [fields("right", 1), fields("unpadded", 2), fields("left", 3)]
LARGE = [{name: field.repeat(700, 1) for name, field in fields().items()}]
"""More than a MiB of hidden states."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    be_the_server()
    with running_worker(FAMILY) as running:
        running.worker.load_update(global_update(FAMILY))
        yield running


def context(**node_config: Any) -> Context:
    return Context(
        run_id=1, node_id=NODE, node_config=node_config, state=RecordDict(), run_config={}
    )


def order_for(worker: Worker, spec: SessionSpec = SPEC, **changed: Any) -> Instructions:
    order = Instructions(
        server_round=1,
        num_examples=12,
        model=MODEL,
        link=Link(max_message_mb=1, step_timeout_seconds=10.0),
        address=worker.address,
        token=worker.worker.open(spec),
        probe=spec.train,
        cached_halves=1,
        session=spec,
    )
    return order.replace(**changed)


def message(order: Instructions, message_type: str = MessageType.TRAIN) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord(to_state_dict(below(FAMILY, order.session.cut))),
            "config": ConfigRecord({"server-round": 1}),
            INSTRUCTIONS_KEY: ConfigRecord(order.to_config()),
        }
    )
    return Message(content=content, message_type=message_type, dst_node_id=NODE)


def query() -> Message:
    return Message(content=RecordDict(), message_type=MessageType.QUERY, dst_node_id=NODE)


def reason_of(reply: Message) -> str:
    assert reply.has_error()
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    return str(reply.error.reason)


def test_a_client_waits_for_its_lease_as_long_as_its_round_may_last(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def watched(
        fraction: float, *, card_bytes: float, timeout_seconds: float
    ) -> AbstractContextManager[str]:
        waits.append(timeout_seconds)
        return leased(fraction, card_bytes=card_bytes, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(round_setup, "leased", watched)
    spec = SPEC.replace(round_timeout_seconds=4321.0)
    assert split_train(message(order_for(worker, spec)), context(), BATCHES).has_content()
    assert waits == [4321.0]


def test_a_device_says_what_its_node_config_says(worker: Worker) -> None:
    told = {
        "memory-gb": 2.5,
        "flops": 3e12,
        "up-mbps": 80.0,
        "down-mbps": 160,
        "rtt-ms": 20,
        "partition-id": 3,
        "num-partitions": 5,
        "colour": "blue",
    }
    reply = describe_device(query(), context(**told), num_examples=42)
    assert dict(reply.content.config_records[PROFILE_KEY]) == {
        "num-examples": 42,
        "name": f"{platform.node()}/3",
        "memory-bytes": 2.5e9,
        "flops-per-second": 3e12,
        "up-bytes-per-second": 1e7,
        "down-bytes-per-second": 2e7,
        "round-trip-seconds": 0.02,
        "partition-id": 3,
        "num-partitions": 5,
    }


def test_what_the_node_config_does_not_say_is_measured(worker: Worker) -> None:
    reply = describe_device(query(), context(**{"memory-gb": 1.0}), num_examples=1)
    told = reply.content.config_records[PROFILE_KEY]
    names = {field.name.replace("_", "-") for field in fields_of(DeviceProfile)}
    assert set(told) == {"num-examples", "name", *names}
    assert told["memory-bytes"] == 1e9
    assert told["flops-per-second"] == pytest.approx(machine_profile().flops_per_second)


def test_speed_is_measured_in_the_type_that_the_model_computes_in(worker: Worker) -> None:
    message = query()
    message.content[QUERY_KEY] = ConfigRecord({"dtype": "bfloat16"})
    told = describe_device(message, context(), num_examples=1).content.config_records[PROFILE_KEY]
    measured = machine_profile(dtype=torch.bfloat16).flops_per_second
    assert told["flops-per-second"] == measured != machine_profile().flops_per_second
    message.content[QUERY_KEY] = ConfigRecord({"dtype": "int64"})
    refused = describe_device(message, context(), num_examples=1)
    assert "ConfigError: dtype is 'int64'" in refused.error.reason


@pytest.mark.parametrize(
    ("node_config", "num_examples", "reason"),
    [
        ({}, 0, "DataError: this client's partition is empty"),
        ({"memory-gb": "much"}, 1, "ConfigError: node-config: memory-gb is 'much'"),
    ],
)
def test_a_device_that_cannot_say_answers_why(
    worker: Worker, node_config: dict[str, Any], num_examples: int, reason: str
) -> None:
    assert reason in reason_of(describe_device(query(), context(**node_config), num_examples))


@pytest.mark.parametrize("labels", Labels)
def test_training_brings_home_what_a_local_round_trains(worker: Worker, labels: Labels) -> None:
    spec = SPEC.replace(labels=labels)
    reply = split_train(message(order_for(worker, spec)), context(), BATCHES)
    half = load_client(FAMILY, CUT, keeps_labels=labels is Labels.CLIENT)
    with exchange(in_process, worker, worker.worker.open(spec)) as stream:
        local_round = LocalRound(half, below(FAMILY, CUT), spec, stream)
        wanted = local_round.train([Batch(**batch) for batch in BATCHES], probe=True)

    got = from_state_dict(reply.content.array_records[UPDATE_KEY].to_torch_state_dict())
    names = {w.name for w in architecture(FAMILY).weights if w.block < CUT}
    assert set(got) == {name for name in names if SPEC.ranks[name]}
    for name, update in wanted.updates.items():
        torch.testing.assert_close(got[name].b, update.b)
        torch.testing.assert_close(got[name].a, update.a)
    metrics = reply.content.metric_records[METRICS_KEY]
    assert metrics["loss-sum"] == pytest.approx(wanted.loss.loss_sum, rel=1e-5)
    assert metrics["num-tokens"] == wanted.loss.num_tokens
    assert (metrics["num-steps"], metrics["num-examples"]) == (len(BATCHES), 12)
    assert metrics["num-batch-tokens"] == sum(batch["input_ids"].numel() for batch in BATCHES)
    scores = reply.content.config_records[IMPORTANCE_KEY]
    got_scores = dict(zip(scores["weights"], scores["scores"], strict=True))
    assert got_scores == pytest.approx(dict(wanted.importance), rel=1e-4)
    assert set(got_scores) == names


def test_each_step_is_told_to_whoever_wants_to_know(worker: Worker) -> None:
    told: list[StepDone] = []
    spec = SPEC.replace(server_round=2, num_steps=len(BATCHES))
    order = message(order_for(worker, spec))
    reply = split_train(order, context(), BATCHES, on_step=told.append)
    metrics = reply.content.metric_records[METRICS_KEY]
    assert [(one.server_round, one.number, one.num_steps) for one in told] == [
        (2, number, len(BATCHES)) for number in range(1, len(BATCHES) + 1)
    ]
    assert sum(one.loss.loss_sum for one in told) == pytest.approx(metrics["loss-sum"])
    assert sum(one.num_tokens for one in told) == metrics["num-batch-tokens"]
    assert sum(one.seconds for one in told) <= metrics["seconds"]
    assert {one.learning_rate for one in told} == {spec.learning_rate}


def test_evaluation_brings_home_a_loss_and_nothing_else(worker: Worker) -> None:
    spec = SPEC.replace(ranks={}, train=False)
    reply = split_evaluate(message(order_for(worker, spec), "evaluate"), context(), BATCHES)
    assert list(reply.content) == [METRICS_KEY]
    half = load_client(FAMILY, CUT)
    with exchange(in_process, worker, worker.worker.open(spec)) as stream:
        wanted = LocalRound(half, below(FAMILY, CUT), spec, stream).evaluate(
            [Batch(**batch) for batch in BATCHES]
        )
    metrics = reply.content.metric_records[METRICS_KEY]
    assert metrics["loss-sum"] == pytest.approx(wanted.loss.loss_sum, rel=1e-6)


def test_batches_are_taken_one_by_one(worker: Worker) -> None:
    order = order_for(worker)
    done = []

    def lazily() -> Iterator[dict[str, Any]]:
        for batch in BATCHES:
            done.append(worker.worker.steps()[NODE])
            yield {name: tensor.numpy() for name, tensor in batch.items()}

    for token in list(worker.sessions._sessions):
        if token != order.token:
            worker.worker.close(token)
    reply = split_train(message(order), context(), lazily())
    assert not reply.has_error()
    assert done == [0, 1, 2], "a batch is made when the one before has been trained"


def test_a_round_leaves_nothing_behind_for_the_next(worker: Worker) -> None:
    first = split_train(message(order_for(worker)), context(), BATCHES)
    again = split_train(message(order_for(worker)), context(), BATCHES)
    states = [
        reply.content.array_records[UPDATE_KEY].to_torch_state_dict() for reply in (first, again)
    ]
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, rtol=1e-5, atol=1e-7)


def test_a_client_may_keep_the_model_elsewhere(worker: Worker, tmp_path: Path) -> None:
    own = tmp_path / "my-copy"
    shutil.copytree(checkpoint(FAMILY), own)
    order = order_for(worker, model=Model(name="a name that only the server knows"))
    assert not split_train(message(order), context(model=str(own)), BATCHES).has_error()
    order = order_for(worker, model=Model(name=str(tmp_path / "nowhere")))
    assert "UnsupportedModelError" in reason_of(split_train(message(order), context(), BATCHES))


@pytest.mark.parametrize(
    ("changed", "batches", "reason"),
    [
        ({"token": "guessed"}, BATCHES, "AuthenticationError"),
        ({}, LARGE, "larger|limit|exceed"),
        ({"model": MODEL.replace(dtype="bfloat16")}, BATCHES, ""),
    ],
)
def test_what_the_worker_refuses(
    worker: Worker, changed: dict[str, Any], batches: list[dict[str, Tensor]], reason: str
) -> None:
    reply = split_train(message(order_for(worker, **changed)), context(), batches)
    if reason:
        assert re.search(reason, reason_of(reply))
    else:
        assert not reply.has_error(), "halves may be in different types"


def test_a_worker_that_cannot_be_reached_is_named(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    reply = split_train(message(order_for(worker, address="127.0.0.1:9")), context(), BATCHES)
    assert "WorkerUnavailableError" in reason_of(reply)
    assert "127.0.0.1:9 was tried 5 times" in reason_of(reply)


@pytest.mark.parametrize("wire_type", [WireType.BFLOAT16, WireType.FLOAT16, WireType.INT8])
def test_a_narrow_wire(worker: Worker, wire_type: WireType) -> None:
    spec = SPEC.replace(wire_type=wire_type)
    narrow = split_train(message(order_for(worker, spec)), context(), BATCHES)
    wide = split_train(message(order_for(worker)), context(), BATCHES)
    losses = [r.content.metric_records[METRICS_KEY]["loss-sum"] for r in (narrow, wide)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]
