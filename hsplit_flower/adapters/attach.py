"""A client's adapters, attached to its half through PEFT.

Two PEFT adapters per weight: ``global`` holds the frozen part of the exact global update, ``local``
what this client trains this round. Their ranks differ from weight to weight, and a weight may have
one without the other. Where the frozen part is dearer in factors than as a matrix, it is added to
the half's in-memory weight instead.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import AdapterError
from ..splitting.linear import add_product_to_weight_, linear_at, shape_of
from ..types import ScaleRule, Scaling
from .dropout import DropoutMasks
from .start import StartingPoint
from .trainable import Trainable

GLOBAL = "global"
LOCAL = "local"
AS_IT_IS = Scaling(alpha=1.0, rule=ScaleRule.CONSTANT)


def attach(
    model: nn.Module,
    starts: Mapping[str, StartingPoint] | Iterable[tuple[str, StartingPoint]],
    *,
    scaling: Scaling,
    masks: DropoutMasks | None = None,
) -> dict[str, Trainable]:
    """Attach frozen and trainable factors to the named weights of a model.

    Parameters
    ----------
    model
        A half, or a whole model; changed in place.
    starts
        Where each weight starts this round, by name. A weight without a trainable rank is not
        trained, one without a frozen rank has no frozen part. Of pairs that are made one after
        another, none is held when the next one is made, only its factors.
    scaling
        What the trainable products are multiplied by, by their ranks.
    masks
        Of what they do not see in training; None where they see everything.

    Returns
    -------
    dict[str, Trainable]
        The trainable parameters by weight name, to be given to the optimizer.

    Raises
    ------
    AdapterError
        If a weight is not a linear layer of this model, or has another shape.
    """
    if isinstance(starts, Mapping):
        for name, start in starts.items():
            check_fits(model, name, start)
        starts = starts.items()
    frozen, trained = {}, {}
    for name, start in starts:
        check_fits(model, name, start)
        if start.merge is not None:
            add_product_to_weight_(linear_at(model, name), start.merge.b, start.merge.a)
        device = linear_at(model, name).weight.device
        frozen[name] = _own(start.frozen.b, device), _own(start.frozen.a, device)
        trained[name] = _own(start.trainable_b, device), _own(start.trainable_a, device)
        # Else it would be held while the next one is made.
        del start
    _inject(model, GLOBAL, frozen, scaling=AS_IT_IS)
    _inject(model, LOCAL, trained, scaling=scaling)
    return _activated(model, masks)


def detach(model: nn.Module) -> None:
    """Take everything off a model that `attach` put there, except what it added to the weights."""
    for name, layer in list(_lora_layers(model)):
        model.set_submodule(name, layer.get_base_layer())
    # PEFT would take it for adapters that are still there.
    if "peft_config" in vars(model):
        del model.peft_config


def check_fits(model: nn.Module, name: str, start: StartingPoint) -> None:
    """Refuse factors whose shape is not that of the weight they are for."""
    wanted = shape_of(linear_at(model, name))
    got = (start.frozen.out_features, start.frozen.in_features)
    if got != wanted:
        raise AdapterError(f"factors of {name!r} are for a weight of {got}, the model has {wanted}")


def _inject(
    model: nn.Module,
    adapter: str,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    *,
    scaling: Scaling,
) -> None:
    ranks = {name: b.shape[1] for name, (b, _) in factors.items() if b.shape[1]}
    if not ranks:
        return
    config = LoraConfig(
        r=1,
        lora_alpha=1,
        target_modules=list(ranks),
        rank_pattern=dict(ranks),
        alpha_pattern={name: scaling.of(rank) * rank for name, rank in ranks.items()},
        fan_in_fan_out=isinstance(linear_at(model, next(iter(ranks))), Conv1D),
    )
    with warnings.catch_warnings():
        # A second adapter on a model that has one is what is wanted here.
        warnings.filterwarnings("ignore", message=".*more than one.*|.*already.*")
        inject_adapter_in_model(config, model, adapter_name=adapter, low_cpu_mem_usage=True)
    for name in ranks:
        layer: Any = model.get_submodule(name)
        b, a = factors[name]
        layer.lora_B[adapter].weight = nn.Parameter(b)
        layer.lora_A[adapter].weight = nn.Parameter(a)


def _activated(model: nn.Module, masks: DropoutMasks | None) -> dict[str, Trainable]:
    """Have every layer add all its adapters, of which the local one alone is trained."""
    trainables = {}
    for name, layer in _lora_layers(model):
        layer.set_adapter([adapter for adapter in (GLOBAL, LOCAL) if adapter in layer.lora_A])
        if GLOBAL in layer.lora_A:
            layer.lora_A[GLOBAL].requires_grad_(False)
            layer.lora_B[GLOBAL].requires_grad_(False)
        if LOCAL in layer.lora_A:
            b, a = layer.lora_B[LOCAL].weight, layer.lora_A[LOCAL].weight
            assert isinstance(b, nn.Parameter) and isinstance(a, nn.Parameter)
            if masks is not None and (masked := masks.module(name)) is not None:
                layer.lora_dropout[LOCAL] = masked
            trainables[name] = Trainable(b=b, a=a)
    return trainables


def _own(factor: Tensor, device: torch.device) -> Tensor:
    """The factor in storage of its own: a view would keep all of what it is a view of."""
    own = factor.to(device, torch.float32).contiguous()
    return own.clone() if own.untyped_storage().nbytes() > own.nbytes else own


def _lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module
