"""Models of text and images, used for text: their towers are in neither half, and that is said."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PretrainedConfig

from hsplit_flower.costs import Workload, trace_costs
from hsplit_flower.splitting import Parts, load_half, read_architecture
from hsplit_flower.splitting.half import absent_modules
from tests.families import LLAMA_SHAPED, NUM_BLOCKS, VOCABULARY, fields, save

TEXT = LLAMA_SHAPED | {"head_dim": 4}
# As many layers as the text has: the list of blocks must be told from the tower's.
VIT = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": NUM_BLOCKS,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
QWEN_VIT = {"depth": 2, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2}
ROTARY = {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e4}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "partial_rotary_factor": 1.0,
}
IMAGE = {"image_token_id": VOCABULARY - 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": TEXT,
        "vision_config": VIT,
        "mm_tokens_per_image": 1,
        "image_token_index": VOCABULARY - 1,
    },
    "mistral3": {
        "text_config": TEXT | {"model_type": "mistral"},
        "vision_config": VIT | {"model_type": "pixtral", "head_dim": 4},
        "image_token_index": VOCABULARY - 1,
    },
    "qwen2_5_vl": {
        "text_config": LLAMA_SHAPED | {"rope_parameters": ROTARY},
        "vision_config": QWEN_VIT | {"out_hidden_size": 16, "fullatt_block_indexes": [1]},
        **IMAGE,
    },
    "qwen3_5": {
        "text_config": TEXT | LINEAR | {"rope_parameters": ROTARY},
        "vision_config": QWEN_VIT | {"out_hidden_size": 16},
        **IMAGE,
    },
}


def config_of(model_type: str) -> PretrainedConfig:
    return CONFIG_MAPPING[model_type](**SETTINGS[model_type])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", SETTINGS)
def test_halves_without_towers_give_the_logits_of_the_whole(
    model_type: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config_of(model_type)).eval()
    folder = str(save(model, tmp_path))
    batch = fields("right")
    ids, mask = batch["input_ids"].clamp(max=VOCABULARY - 5), batch["attention_mask"]
    found = read_architecture(type(model.config).from_pretrained(folder))
    assert found.towers
    with torch.no_grad(), caplog.at_level(logging.WARNING, logger="hsplit_flower"):
        wanted = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for cut in range(1, found.num_blocks):
            client = load_half(folder, Parts.of_client(cut, keeps_labels=False))
            worker = load_half(folder, Parts.of_worker(cut, found.num_blocks))
            got = worker.logits(client.embed(ids, mask), mask, start=cut)
            torch.testing.assert_close(got[mask.bool()], wanted[mask.bool()], rtol=1e-5, atol=1e-6)
    for half in (client, worker):
        held = [name for name, _ in half.model.named_parameters()]
        assert not any(name.startswith(found.towers) for name in held)
    assert f"{', '.join(found.towers)} are left out of both halves" in caplog.text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", SETTINGS)
def test_costs_are_those_of_the_text(model_type: str) -> None:
    costs = trace_costs(config_of(model_type), Workload(batch_size=2, sequence_length=9))
    found = read_architecture(config_of(model_type))
    assert set(found.towers) <= absent_modules(found, Parts.whole(found.num_blocks))
    assert costs.num_blocks == NUM_BLOCKS
    assert all("visual" not in w.name and "vision" not in w.name for w in costs.weights)
    assert all(one.forward_flops > 0 for one in costs.passes)
