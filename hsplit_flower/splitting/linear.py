"""The linear layers behind weights' names, and their matrices in one orientation."""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import AdapterError
from .quantised_linear import QuantisedLinear, refuse_quantised


def linear_at(model: nn.Module, name: str) -> nn.Linear | Conv1D:
    """The linear layer behind a weight's name, whether or not PEFT has wrapped it.

    Raises
    ------
    AdapterError
        If the model has no linear layer of that name.
    """
    module: object = model
    # Down the modules that it holds: a stand-in answers for those of another half.
    for part in name.split("."):
        module = module._modules.get(part) if isinstance(module, nn.Module) else None
    module = getattr(module, "base_layer", module)
    if not isinstance(module, (nn.Linear, Conv1D)):
        raise AdapterError(
            f"{name!r} is not a linear layer of this model, found {type(module).__name__}"
        )
    return module


def matrix_of(module: nn.Linear | Conv1D) -> Tensor:
    """The layer's matrix as ``[out_features, in_features]``.

    A view of what it stores; where that is quantised, it is dequantised anew.
    """
    if isinstance(module, QuantisedLinear):
        return module.matrix()
    return module.weight.T if isinstance(module, Conv1D) else module.weight


def shape_of(module: nn.Linear | Conv1D) -> tuple[int, int]:
    """``(out_features, in_features)``."""
    if isinstance(module, Conv1D):
        in_features, out_features = module.weight.shape
        return out_features, in_features
    return module.out_features, module.in_features


def own_matrix_of(module: nn.Linear | Conv1D, name: str = "this layer") -> Tensor:
    """The same to be changed in place.

    Raises
    ------
    AdapterError
        If the layer's weight is quantised: nothing is ever merged into one.
    """
    refuse_quantised(module, name)
    return matrix_of(module)


@torch.no_grad()
def add_to_weight_(module: nn.Linear | Conv1D, update: Tensor) -> None:
    """Add ``[out_features, in_features]`` to the layer's in-memory weight."""
    matrix = own_matrix_of(module)
    matrix.add_(update.to(matrix.device, matrix.dtype))


@torch.no_grad()
def add_product_to_weight_(module: nn.Linear | Conv1D, b: Tensor, a: Tensor) -> None:
    """Add the product of ``[out_features, rank]`` and ``[rank, in_features]`` to the same weight.

    No other matrix of that size is made, unless the weight's dtype is coarser than the factors':
    then the product is rounded, not they.
    """
    matrix = own_matrix_of(module)
    if matrix.dtype.itemsize < b.dtype.itemsize:
        add_to_weight_(module, b @ a)
    else:
        matrix.addmm_(b.to(matrix), a.to(matrix))
