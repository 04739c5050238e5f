"""Several workers described as one, for the planner."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.errors import ConfigError
from hsplit_flower.splitting.base_digest import BaseDigest, TensorDigest
from hsplit_flower.types import WorkerDescription
from hsplit_flower.wire.base_text import base_to_text
from hsplit_flower.worker.group import described_together


def described(
    memory_bytes: float, flops_per_second: float, max_sessions: int = 100
) -> WorkerDescription:
    return WorkerDescription(
        model="m",
        num_blocks=8,
        lowest_cut=2,
        memory_bytes=memory_bytes,
        flops_per_second=flops_per_second,
        dtype="float32",
        max_sessions=max_sessions,
    )


def test_what_different_devices_have_adds_up() -> None:
    cards = [(("node", "0"), described(10e9, 3e12)), (("node", "1"), described(12e9, 4e12))]
    assert described_together(cards) == described(22e9, 7e12, 200)


def test_workers_on_one_device_share_what_it_has() -> None:
    """The last one to measure saw all bases loaded, and found the least memory free."""
    on_one = [(("node",), described(9e9, 3e10)), (("node",), described(8e9, 2e10))]
    assert described_together(on_one) == described(8e9, 3e10, 200)
    elsewhere = (("other",), described(4e9, 1e10))
    assert described_together([*on_one, elsewhere]) == described(12e9, 4e10, 300)


@given(memory=st.floats(1.0, 1e13), flops=st.floats(1.0, 1e16), count=st.integers(1, 9))
def test_one_device_is_not_more_for_having_more_workers(
    memory: float, flops: float, count: int
) -> None:
    own = described(memory, flops)
    assert described_together([("device", own)] * count) == described(memory, flops, 100 * count)


def test_workers_with_other_bases_cannot_be_used_together() -> None:
    """As on nodes of a cluster whose folders are not the same."""
    own = described(8e9, 2e10)
    texts = [
        base_to_text(BaseDigest(tensors={"a": TensorDigest(digest=digest)}))
        for digest in ("00000001", "00000002")
    ]
    alike = [replace(own, base=texts[0], max_message_bytes=most) for most in (7, 5)]
    together = described_together([("one", alike[0]), ("other", alike[1])])
    assert (together.base, together.max_message_bytes) == (texts[0], 5)
    with pytest.raises(ConfigError, match="another base than another worker of the pool: the val"):
        described_together([("one", alike[0]), ("other", replace(own, base=texts[1]))])
