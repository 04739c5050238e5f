"""The unsplit model as transformers and bitsandbytes quantise it, trained by PEFT."""

import functools
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from torch import Tensor
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from hsplit_flower.adapters import starting_points
from hsplit_flower.settings import SessionSpec
from tests.families import FAMILIES, checkpoint
from tests.reference.unsplit import Step, train, with_peft
from tests.rounds import architecture, global_update

OPTIONS = {
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.float32,
    },
    "int8": {"load_in_8bit": True},
}
"""What transformers is told for each kind, with double quantisation where there is one."""


def quantised_model(name: str, kind: str) -> PreTrainedModel:
    """The family's whole model, quantised by transformers while it is loaded."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        checkpoint(name),
        dtype=torch.float32,
        attn_implementation=FAMILIES[name].attention,
        quantization_config=BitsAndBytesConfig(**OPTIONS[kind]),
        device_map={"": "cpu"},
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            matrix = dequantised(module.weight.data, module.weight.quant_state)
            module.forward = functools.partial(linear, weight=matrix, bias=module.bias)
    return model


def dequantised(codes: Tensor, state: Any) -> Tensor:
    """A matrix of 4 bits, number by number: its code's value, times the scale of its block.

    bitsandbytes' own kernel is not taken: with AVX-512 it mistakes the scales of matrices of which
    a row is not made of whole blocks, as all of these small ones.
    """
    scales = state.absmax
    if state.nested:
        of_scales = state.state2.absmax.repeat_interleave(state.state2.blocksize)[: len(scales)]
        scales = state.state2.code[scales.long()] * of_scales + state.offset
    packed = codes.flatten().long()
    values = state.code[torch.stack((packed >> 4, packed & 15), dim=1).flatten()]
    scale_of_each = scales.repeat_interleave(state.blocksize)
    count = state.shape.numel()
    return (values[:count] * scale_of_each[:count]).view(state.shape)


def quantised_steps(
    name: str, kind: str, spec: SessionSpec, batches: list[dict[str, torch.Tensor]]
) -> list[Step]:
    """What it does with the batches of a session: all of the update stays beside its weights."""
    points = starting_points(
        architecture(name).weights,
        global_update(name),
        spec.ranks,
        start=spec.start,
        scaling=spec.scaling,
        seed=spec.seed,
        dtype=torch.uint8,
    )
    assert not any(point.into_weight for point in points.values())
    trained = {name: (p.trainable_b, p.trainable_a) for name, p in points.items()}
    frozen = {name: (p.frozen.b, p.frozen.a) for name, p in points.items()}
    model = with_peft(quantised_model(name, kind), trained, spec.scaling, frozen)
    return train(model, batches, learning_rate=spec.learning_rate, weight_decay=spec.weight_decay)


@functools.cache
def stored_folder(name: str, kind: str, parent: str) -> str:
    """A folder of the quantised model, as `save_pretrained` writes it."""
    folder = f"{parent}/{name}-{kind}"
    quantised_model(name, kind).save_pretrained(folder)
    return folder
