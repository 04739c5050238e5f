"""The unsplit model as transformers and bitsandbytes quantise it, trained by PEFT."""

import functools

import torch
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
    return AutoModelForCausalLM.from_pretrained(
        checkpoint(name),
        dtype=torch.float32,
        attn_implementation=FAMILIES[name].attention,
        quantization_config=BitsAndBytesConfig(**OPTIONS[kind]),
        device_map={"": "cpu"},
    )


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
