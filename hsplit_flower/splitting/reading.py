"""What a model is in two halves, which are tried before anything is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PretrainedConfig, PreTrainedModel

from .architecture import Architecture, find_parts
from .configuration_memo import once_a_configuration
from .empty_model import MasksAreFull, build_empty, unsupported
from .half import Half, absent_modules, take_out
from .parts import Parts


@once_a_configuration
def read_architecture(config: PretrainedConfig) -> Architecture:
    """Find the parts of the model that ``config`` describes; see `describe`."""
    return describe(build_empty(config))


def describe(model: PreTrainedModel) -> Architecture:
    """The parts of a model on the meta device, of which halves were run without memory.

    Raises
    ------
    UnsupportedModelError
        Naming the model type and what keeps it from being split.
    """
    architecture = find_parts(model)
    _try_halves(model, architecture)
    return architecture


def _try_halves(model: PreTrainedModel, architecture: Architecture) -> None:
    """Run a client of one block and a worker of one: their code may need what they do not hold."""
    num_blocks = architecture.num_blocks
    worker = Parts.of_worker(num_blocks - 1, num_blocks)
    tokens = torch.ones(1, 4, dtype=torch.long, device="meta")
    mask = torch.ones_like(tokens)
    try:
        with torch.no_grad(), MasksAreFull():
            with _half(model, architecture, Parts.of_client(1, keeps_labels=False)) as half:
                hidden = half.embed(tokens, mask)
            with _half(model, architecture, worker) as half:
                half.logits(hidden, mask, start=num_blocks - 1)
            with _half(model, architecture, Parts.of_client(1, keeps_labels=True)) as half:
                half.logits(hidden, mask, start=num_blocks)
    except Exception as error:
        raise unsupported(
            model.config,
            f"its code needs modules of the other half ({type(error).__name__}: {error})",
        ) from error


@contextmanager
def _half(model: PreTrainedModel, architecture: Architecture, parts: Parts) -> Iterator[Half]:
    """A whole model as a half, until the block ends."""
    taken = take_out(model, absent_modules(architecture, parts))
    try:
        for module in model.modules():
            if isinstance(module, PreTrainedModel):
                # As the loader does, before it reads anything.
                model._init_weights(module)
        yield Half(model, architecture, parts)
    finally:
        for path, module in taken.items():
            model.set_submodule(path, module)
