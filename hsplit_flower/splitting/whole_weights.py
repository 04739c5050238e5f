"""All parameters of a model by name, taken out, put in and written; tied ones are there once."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .checkpoint import Checkpoint
from .companions import copy_companions
from .model_name import SINGLE_FILE
from .tensor_file import save_tensors


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter on the host, in float32."""
    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True)
        for name, parameter in model.named_parameters()
    }


@torch.no_grad()
def load_weights_(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make these parameters of a model what is given for them, in its memory and its dtype.

    Raises
    ------
    AdapterError
        If the model lacks a parameter, or has another shape of it.
    """
    parameters = dict(model.named_parameters())
    for name, weight in weights.items():
        if name not in parameters:
            raise AdapterError(f"the model has no parameter {name!r}: check which base it is of")
        parameter = parameters[name]
        if parameter.shape != weight.shape:
            raise AdapterError(
                f"the parameter {name!r} has shape {list(weight.shape)}, the model's has "
                f"{list(parameter.shape)}: check which base it is of"
            )
        parameter.copy_(weight)


def write_model(weights: Mapping[str, Tensor], folder: Path, *, base: Checkpoint) -> None:
    """Write all parameters as a checkpoint that transformers loads.

    Parameters
    ----------
    weights
        Every parameter by name, float32.
    folder
        Where to; it exists, and is empty.
    base
        Whose configuration and tokenizer are copied.
    """
    copy_companions(base, folder, torch.float32)
    tensors = {name: weight.contiguous() for name, weight in weights.items()}
    save_tensors(folder / SINGLE_FILE, tensors, metadata={"format": "pt"})
