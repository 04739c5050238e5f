"""The wire benchmark counts all that is in a step's messages."""

import pytest
import torch

from benchmarks.wire import step_messages
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.messages import reply_to_wire, request_to_wire

HIDDEN = torch.ones(4, 6, 32)


@pytest.mark.parametrize("labels", Labels)
def test_hidden_states_and_gradients_cross_as_often_as_in_a_step(labels: Labels) -> None:
    requests, replies = step_messages(HIDDEN, labels, torch.Generator().manual_seed(0))
    times = 2 if labels is Labels.CLIENT else 1
    assert (len(requests), len(replies)) == (times, times)
    for message in [
        *(request_to_wire(request, WireType.FLOAT32) for request in requests),
        *(reply_to_wire(reply, WireType.FLOAT32) for reply in replies),
    ]:
        assert len(message.SerializeToString()) > HIDDEN.nbytes


def test_rows_are_of_uneven_length_and_cost_no_mask() -> None:
    requests, _ = step_messages(HIDDEN, Labels.SERVER, torch.Generator().manual_seed(0))
    message = request_to_wire(requests[0], WireType.FLOAT32)
    assert message.forward.HasField("lengths")
    assert not message.forward.HasField("mask")
