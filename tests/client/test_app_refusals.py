"""Messages that a client cannot do its part of, and what it says of them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from benchmarks.tools.threads import be_the_server
from hsplit_flower.client.app import split_evaluate, split_train
from hsplit_flower.errors import HSplitError
from hsplit_flower.transport.status import CATALOGUE
from hsplit_flower.wire.instructions import (
    INSTRUCTIONS_KEY,
)
from tests.client.test_app import BATCHES, FAMILY, NODE, context, message, order_for, reason_of
from tests.rounds import global_update
from tests.workers import Worker, running_worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    be_the_server()
    with running_worker(FAMILY) as running:
        running.worker.load_update(global_update(FAMILY))
        yield running


def test_a_message_that_is_no_order_says_what_is_missing(worker: Worker) -> None:
    plain = Message(
        RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord()}),
        message_type=MessageType.TRAIN,
        dst_node_id=NODE,
    )
    for function in (split_train, split_evaluate):
        reason = reason_of(function(plain, context(), BATCHES))
        assert INSTRUCTIONS_KEY in reason
        assert "HSplitLoRA" in reason


def test_an_order_of_another_version_says_so(worker: Worker) -> None:
    told = message(order_for(worker))
    record = told.content.config_records[INSTRUCTIONS_KEY]
    record["text"] = record["text"].replace('"version": 1', '"version": 2')
    reason = reason_of(split_train(told, context(), BATCHES))
    assert "version 2, 1 is wanted: install the same hsplit_flower" in reason
    del record["text"]
    assert "lacks 'text'" in reason_of(split_train(told, context(), BATCHES))


HOSTILE: dict[str, dict[str, Any]] = {
    "no block on the client, which would send raw embeddings": {"session.cut": 0},
    "more blocks than the model has": {"session.cut": 99},
    "far more": {"session.cut": 2**60},
    "a socket of the device": {"address": "unix:/run/secrets"},
    "an address that others resolve": {"address": "dns://8.8.8.8/worker:1"},
    "no port": {"address": "127.0.0.1"},
    "a port of letters": {"address": "127.0.0.1:http"},
    "a port above the highest, which gRPC takes for another": {"address": "127.0.0.1:99999"},
    "an authority that is no certificate": {"trust.root_certificates": "no PEM"},
    "one that is no ASCII": {"trust.root_certificates": "мир"},
    "patience beyond what a clock can count": {"link.step_timeout_seconds": 1e300},
    "the same between tries": {"link.patience_seconds": 1e300},
}


@pytest.mark.parametrize("changed", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("is_secured", [False, True], ids=["plain", "TLS"])
def test_what_a_hostile_server_orders_is_refused_as_an_error_of_ours(
    worker: Worker, changed: dict[str, Any], is_secured: bool
) -> None:
    told = message(order_for(worker))
    record = told.content.config_records[INSTRUCTIONS_KEY]
    form = json.loads(str(record["text"]))
    form["content"]["trust"]["is_secured"] = is_secured
    for path, value in changed.items():
        *groups, name = path.split(".")
        group = form["content"]
        for each in groups:
            group = group[each]
        assert name in group
        group[name] = value
    record["text"] = json.dumps(form)
    # An authority says nothing of a channel that it does not secure.
    is_followed = "trust.root_certificates" in changed and not is_secured
    reply = split_train(told, context(), BATCHES)
    assert reply.has_error() != is_followed
    if not is_followed:
        ours = {kind.__name__ for kind, _ in CATALOGUE} - {HSplitError.__name__}
        assert reason_of(reply).partition(":")[0] in ours
    assert worker.worker.steps()[NODE] == (len(BATCHES) if is_followed else 0)


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        (1e-5, "ConfigError: the weights of the half .* this device grants 10 kB: a lower cut"),
        (3e-5, "OutOfBudgetError.* the budget is 30 kB"),
    ],
    ids=["not even its half", "its half, and not what a step takes beside"],
)
def test_a_device_gives_what_its_node_config_grants_whatever_is_ordered(
    worker: Worker, grant: float, said: str
) -> None:
    granting = context(**{"memory-gb": grant})
    unlimited = order_for(worker)
    assert not unlimited.budget_bytes
    assert re.search(said, reason_of(split_train(message(unlimited), granting, BATCHES)))
    assert worker.worker.steps()[NODE] == 0


def test_an_order_without_an_adapter_says_so(worker: Worker) -> None:
    told = message(order_for(worker))
    del told.content["arrays"]
    assert "DataError" in reason_of(split_train(told, context(), BATCHES))


def test_the_users_own_mistakes_are_not_hidden(worker: Worker) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from BATCHES[:1]
        raise ZeroDivisionError("in the user's own code")

    with pytest.raises(ZeroDivisionError, match="the user's own code"):
        split_train(message(order_for(worker)), context(), broken())
