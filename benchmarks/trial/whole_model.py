"""The whole model of a trial: loaded, with what was learnt in it, and measured."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from hsplit_flower.adapters import LowRank
from hsplit_flower.data import EncodedExample, batches
from hsplit_flower.methods import MethodState
from hsplit_flower.metrics import TokenLoss, token_loss
from hsplit_flower.splitting import Architecture, Checkpoint, locate, read_architecture
from hsplit_flower.splitting.linear import add_to_weight_, linear_at
from hsplit_flower.splitting.whole_weights import load_weights_


def architecture_of(model: str) -> Architecture:
    """Its blocks and their weights."""
    return read_architecture(Checkpoint(source=model).config())


def base_model(name: str) -> Any:
    """The whole base, frozen; eager attention is the faster one at this size on a processor."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        locate(name), dtype=torch.float32, attn_implementation="eager"
    )
    return model.requires_grad_(False)


def global_model(base: Any, state: MethodState) -> Any:
    """A copy of the base with all in its weights that everybody is given of what was learnt."""
    model = with_updates(base, state.updates)
    load_weights_(model, state.weights)
    return model


def with_updates(base: Any, updates: Mapping[str, LowRank]) -> Any:
    """A copy of the base with an adapter in its weights."""
    model = copy.deepcopy(base)
    for name, update in updates.items():
        add_to_weight_(linear_at(model, name), update.dense())
    return model


def with_weights(base: Any, weights: Mapping[str, Tensor]) -> Any:
    """A copy of the base with these parameters in the place of its own."""
    model = copy.deepcopy(base)
    load_weights_(model, weights)
    return model


@torch.no_grad()
def perplexity(model: Any, dev: list[EncodedExample], pad_id: int) -> float:
    """Over the references' tokens and end tokens."""
    model.eval()
    total = TokenLoss()
    for batch in batches(dev, 64, pad_id=pad_id):
        labels = batch.pop("labels")
        total += token_loss(model(**batch, use_cache=False).logits, labels)
    return total.perplexity
