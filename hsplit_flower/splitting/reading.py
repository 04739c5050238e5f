"""What a configuration's model is in two halves, tried before anything is loaded."""

import copy

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from .architecture import Architecture, describe
from .empty_model import ValuesAssumed, build_empty, unsupported
from .half import Half, Parts, absent_modules, outermost, stand_in


def read_architecture(config: PretrainedConfig) -> Architecture:
    """Find the parts of the model that ``config`` describes, and run halves of it without memory.

    Raises
    ------
    UnsupportedModelError
        Naming the model type and what keeps it from being split.
    """
    model = build_empty(config)
    architecture = describe(model)
    _try_halves(model, architecture)
    return architecture


def _try_halves(model: PreTrainedModel, architecture: Architecture) -> None:
    """Run a client of one block and a worker of one: their code may need what they do not hold."""
    last = architecture.num_blocks - 1
    tokens = torch.ones(1, 4, dtype=torch.long, device="meta")
    mask = torch.ones_like(tokens)
    client = Parts.of_client(1, keeps_labels=False)
    worker = Parts.of_worker(last, architecture.num_blocks)
    try:
        with torch.no_grad(), ValuesAssumed():
            hidden = _empty_half(model, architecture, client).embed(tokens, mask)
            _empty_half(model, architecture, worker).logits(hidden, mask, start=last)
    except Exception as error:
        raise unsupported(
            model.config,
            f"its code needs modules of the other half ({type(error).__name__}: {error})",
        ) from error


def _empty_half(model: PreTrainedModel, architecture: Architecture, parts: Parts) -> Half:
    """The half of an empty model; blocks are shared with it, the rest is copied."""
    absent = list(outermost(absent_modules(architecture, parts)))
    blocks = model.get_submodule(architecture.blocks)
    kept: dict[int, nn.Module] = {id(block): block for block in blocks.children()}
    modules = [model.get_submodule(path) for path in absent]
    replaced = {id(module): stand_in(module) for module in modules}
    half: PreTrainedModel = copy.deepcopy(model, {**kept, **replaced})
    # As the loader does.
    half._init_weights(half)
    return Half(half, architecture, parts)
