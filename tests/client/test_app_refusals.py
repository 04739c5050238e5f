"""Messages that a client cannot do its part of, and what it says of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from benchmarks.tools.threads import be_the_server
from hsplit_flower.client.app import split_evaluate, split_train
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
