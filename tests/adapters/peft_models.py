"""Models that PEFT checkpoints are tested on, and updates added to their weights."""

from collections.abc import Mapping

import torch
from transformers import GPT2Config, LlamaConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hsplit_flower.adapters import LowRank
from tests.families import GPT2_SHAPED, LLAMA_SHAPED, VOCABULARY

CONFIGS = {
    "llama": LlamaConfig(**(LLAMA_SHAPED | {"num_hidden_layers": 12})),
    "gpt2": GPT2Config(**(GPT2_SHAPED | {"n_layer": 12})),
}
IDS = torch.arange(3, 27).reshape(2, 12) % VOCABULARY


@torch.no_grad()
def with_updates(model: PreTrainedModel, updates: Mapping[str, LowRank]) -> PreTrainedModel:
    """The model with the updates in its weights; changed in place."""
    for name, update in updates.items():
        module = model.get_submodule(name)
        dense = update.dense()
        module.weight.add_(dense.T if isinstance(module, Conv1D) else dense)
    return model
