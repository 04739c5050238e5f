"""That no message is larger than was reckoned, and none is much smaller."""

import pytest
import torch

from hsplit_flower.types import WireType
from hsplit_flower.wire.message_size import largest_message_bytes, most_tokens
from hsplit_flower.wire.messages import Backward, Forward, request_to_wire
from tests.families import fields

WIDTH = 64
HIDDEN = torch.randn(3, 9, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("gradient_type", [None, *WireType])
@pytest.mark.parametrize("wire_type", WireType)
def test_messages_are_as_large_as_was_reckoned(
    wire_type: WireType, gradient_type: WireType | None
) -> None:
    batch = fields("left")
    forward = Forward(
        step=2**40,
        hidden=HIDDEN,
        labels=batch["labels"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["input_ids"],
        total_tokens=2**40,
    )
    types = wire_type, gradient_type
    requests = [forward, Backward(step=2**40, gradient=HIDDEN)]
    largest = max(request_to_wire(request, *types).ByteSize() for request in requests)
    reckoned = largest_message_bytes(27, WIDTH, *types)
    assert 0 < reckoned - largest < 1024 + 9 * 27
    assert most_tokens(reckoned, WIDTH, *types) == 27
    assert most_tokens(reckoned - 1, WIDTH, *types) == 26
    assert most_tokens(10, WIDTH, *types) == 0
