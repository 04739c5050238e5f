"""Meters against tensors whose sizes are known."""

import torch
from torch import nn

from hsplit_flower.costs.metering import LiveBytes, SavedBytes

MEGABYTE = 2**20


def megabytes(count: int) -> torch.Tensor:
    return torch.ones(count * MEGABYTE // 4)


def test_live_bytes_rise_and_fall() -> None:
    with LiveBytes() as live:
        one = megabytes(1)
        assert live.now_bytes == MEGABYTE
        two = one + 1
        view = two[: MEGABYTE // 8].view(-1, 2)
        assert live.now_bytes == 2 * MEGABYTE
        del one, two
        assert live.now_bytes == MEGABYTE
        del view
        assert live.now_bytes == 0
        assert live.peak_bytes == 2 * MEGABYTE
        live.reset_peak()
        assert live.peak_bytes == 0


def test_live_bytes_see_what_lives_for_a_moment() -> None:
    kept = megabytes(1)
    with LiveBytes(ignore=[kept]) as live:
        kept.mul_(2)
        assert live.now_bytes == 0
        (kept + 1).sum()
        assert live.now_bytes == 0
        assert live.peak_bytes >= MEGABYTE


def test_live_bytes_see_gradients() -> None:
    weight = megabytes(1).requires_grad_()
    with LiveBytes(ignore=[weight]) as live:
        (weight * 3).sum().backward()
        assert live.now_bytes == MEGABYTE
        weight.grad = None
        assert live.now_bytes == 0


def test_saved_bytes_count_each_storage_once_and_parameters_never() -> None:
    layer = nn.Linear(8, 8, bias=False)
    inputs = torch.ones(4, 8, requires_grad=True)
    saved = SavedBytes(ignore=layer.parameters())
    with saved.recording():
        output = layer(inputs)
        product = (inputs.T * output.T).sum() + (inputs * output).sum()
    assert saved.total_bytes == 2 * 4 * 8 * 4
    product.backward()
    assert layer.weight.grad is not None
    saved.forget()
    assert saved.total_bytes == 0


def test_the_inner_recording_takes_precedence() -> None:
    tensor = torch.ones(4, requires_grad=True)
    outer, inner = SavedBytes(), SavedBytes()
    with outer.recording():
        with inner.recording():
            tensor.exp()
        assert (outer.total_bytes, inner.total_bytes) == (0, 16)
        tensor.exp()
    assert (outer.total_bytes, inner.total_bytes) == (16, 16)
