"""Every causal family of transformers as a tiny model, where one can be made and run here."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting.empty_model import causal_class
from tests.families import made, shrunk

EVERY_FAMILY = sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES})
MOST_PARAMETERS = 30_000_000


def small_config(model_type: str) -> PretrainedConfig:
    """A configuration whose whole model runs here; a family that has none is skipped."""
    try:
        config = shrunk(model_type)
        with torch.device("meta"):
            empty = made(config, kind=class_of(config))
    except Exception as error:
        pytest.skip(f"no tiny {model_type} can be made: {str(error)[:100]}")
    size = sum(parameter.numel() for parameter in empty.parameters())
    if size > MOST_PARAMETERS:
        pytest.skip(f"the smallest {model_type} has {size / 1e6:.0f} million parameters")
    return config


def class_of(config: PretrainedConfig) -> Any:
    """The class that checkpoints of it are of; those of text and images have towers besides."""
    try:
        return causal_class(config)
    except UnsupportedModelError:
        return AutoModelForCausalLM
