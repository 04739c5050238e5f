"""Blocks that are run once more in the backward pass: same gradients, same scores, less kept."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config

from hsplit_flower.adapters import attach, starting_points
from hsplit_flower.costs.metering import SavedBytes
from hsplit_flower.importance import probing
from hsplit_flower.splitting import Half, Parts, build_half
from hsplit_flower.types import Scaling, Start
from tests.families import FAMILIES, NUM_BLOCKS, VOCABULARY

CUT = NUM_BLOCKS


def trained_half(family: str) -> tuple[Half, dict[str, Tensor]]:
    """A half with adapters on the weights of its blocks but the first, and their parameters."""
    torch.manual_seed(3)
    half = build_half(FAMILIES[family].config(), Parts.of_client(CUT, keeps_labels=False))
    weights = half.architecture.weights_in(half.parts.span)
    ranks = {weight.name: 2 for weight in weights if weight.block > 0}
    points = starting_points(
        weights, {}, ranks, start=Start.RESTART, scaling=Scaling(alpha=2.0), seed=0
    )
    trainables = attach(half.model, points, scaling=Scaling(alpha=2.0))
    factors = {
        f"{name}.{side}": getattr(t, side) for name, t in trainables.items() for side in "ba"
    }
    with torch.no_grad():
        for factor in factors.values():
            factor.add_(0.1)
    half.model.train()
    return half, factors


def step(half: Half, factors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Hidden state and gradients of one step, and the scores of all weights."""
    torch.manual_seed(5)
    tokens = torch.randint(3, VOCABULARY, (2, 8))
    mask = torch.ones_like(tokens)
    mask[0, 6:] = 0
    names = [weight.name for weight in half.architecture.weights_in(half.parts.span)]
    with probing(half.model, names) as scores:
        hidden = half.embed(tokens, mask)
        hidden.backward(torch.randn(hidden.shape))
    found = {"hidden": hidden.detach()}
    for name, factor in factors.items():
        assert factor.grad is not None
        found[name] = factor.grad.clone()
        factor.grad = None
    return found, dict(scores)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_and_scores_are_the_same(family: str) -> None:
    half, factors = trained_half(family)
    kept, kept_scores = step(half, factors)
    half.checkpointing = True
    again, again_scores = step(half, factors)
    torch.testing.assert_close(again, kept, rtol=0, atol=0)
    assert again_scores == kept_scores
    assert min(kept_scores.values()) > 0


def test_dropout_drops_the_same() -> None:
    config: GPT2Config = FAMILIES["gpt2"].config()
    config.update({"resid_pdrop": 0.3, "attn_pdrop": 0.3})
    half = build_half(config, Parts.of_client(CUT, keeps_labels=False))
    half.model.train()
    weights = half.architecture.weights_in(half.parts.span)
    ranks = {weight.name: 2 for weight in weights}
    points = starting_points(
        weights, {}, ranks, start=Start.RESTART, scaling=Scaling(alpha=2.0), seed=0
    )
    trainables = attach(half.model, points, scaling=Scaling(alpha=2.0))
    factors = {name: trainable.b for name, trainable in trainables.items()}
    kept, _ = step(half, factors)
    half.checkpointing = True
    again, _ = step(half, factors)
    torch.testing.assert_close(again, kept, rtol=0, atol=0)


def test_only_the_inputs_of_blocks_are_kept() -> None:
    half, _ = trained_half("llama")
    tokens = torch.randint(3, VOCABULARY, (2, 8))
    held = [*half.model.parameters(), *half.model.buffers(), tokens]
    taken = []
    for half.checkpointing in (False, True):
        saved = SavedBytes(ignore=held)
        with saved.recording():
            half.embed(tokens, None)
        taken.append(saved.total_bytes)
    assert taken[1] < taken[0] / 3


def test_nothing_is_run_twice_without_gradients() -> None:
    half, _ = trained_half("llama")
    half.checkpointing = True
    with torch.no_grad():
        hidden = half.embed(torch.randint(3, VOCABULARY, (2, 8)), None)
    assert not hidden.requires_grad
