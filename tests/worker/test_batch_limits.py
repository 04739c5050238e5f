"""A batch has as many tokens as the device has room for, within reason."""

import torch

from hsplit_flower.splitting import Parts, build_half, read_architecture
from hsplit_flower.types import Span
from hsplit_flower.worker.batch_limits import MOST_TOKENS, limits_for, token_bytes
from tests.families import FAMILIES, NUM_BLOCKS

ARCHITECTURE = read_architecture(FAMILIES["llama"].config())
SPAN = Span(start=1, stop=NUM_BLOCKS)


def test_twice_the_memory_is_twice_the_tokens() -> None:
    each = token_bytes(ARCHITECTURE, SPAN, 4)
    for tokens in (2000, 4000, 8000):
        limits = limits_for(ARCHITECTURE, SPAN, value_bytes=4, memory_bytes=2 * tokens * each)
        assert limits.max_tokens == tokens


def test_it_is_never_nothing_nor_more_than_pays() -> None:
    for memory_bytes, tokens in ((-1.0, 1), (1.0, 1), (1e15, MOST_TOKENS)):
        limits = limits_for(ARCHITECTURE, SPAN, value_bytes=4, memory_bytes=memory_bytes)
        assert limits.max_tokens == tokens


def test_a_token_keeps_no_more_than_is_reckoned_with() -> None:
    """What autograd really saves for the blocks, without the weights themselves."""
    config = FAMILIES["llama"].config()
    config.hidden_size, config.intermediate_size, config.vocab_size = 128, 256, 8
    config.head_dim = 32
    half = build_half(config, Parts.of_worker(1, NUM_BLOCKS))
    weights = {p.data_ptr() for p in half.model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hidden = torch.randn(2, 16, 128, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        last = half.hidden(hidden, None, start=1)
    assert last.requires_grad
    kept = sum(saved.values()) / 32
    reckoned = token_bytes(half.architecture, SPAN, 4)
    assert 0.2 * reckoned < kept < reckoned
