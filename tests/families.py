"""Tiny random models of many families, saved once a process, and batches for them.

The weights are larger than a model's own initialisation, so that every block changes the logits.
Dropout is off.
"""

import atexit
import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

NUM_BLOCKS = 3
VOCABULARY = 61
POSITIONS = 24
WINDOW = 4
IGNORED = -100

LLAMA_SHAPED = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": NUM_BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2_SHAPED = {
    "n_embd": 16,
    "n_layer": NUM_BLOCKS,
    "n_head": 4,
    "n_positions": POSITIONS,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model type, what its configuration says beyond the sizes, and how it attends."""

    model_type: str
    sizes: dict[str, Any]
    settings: dict[str, Any]
    attention: str | None = None

    def config(self) -> PretrainedConfig:
        """The tiny configuration."""
        return CONFIG_MAPPING[self.model_type](**(self.sizes | self.settings))


def _llama_shaped(model_type: str, attention: str | None = None, **settings: Any) -> Family:
    return Family(model_type=model_type, sizes=LLAMA_SHAPED, settings=settings, attention=attention)


SLIDING = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}

FAMILIES = {
    "gpt2": Family(model_type="gpt2", sizes=GPT2_SHAPED, settings={}),
    "llama": _llama_shaped(
        "llama",
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
        tie_word_embeddings=False,
    ),
    "mistral": _llama_shaped("mistral", sliding_window=WINDOW),
    "qwen2": _llama_shaped("qwen2", use_sliding_window=True, sliding_window=WINDOW, **SLIDING),
    "qwen3": _llama_shaped("qwen3", head_dim=8, tie_word_embeddings=True),
    # Soft caps are left out by the faster attention kernels.
    "gemma2": _llama_shaped(
        "gemma2",
        "eager",
        head_dim=4,
        query_pre_attn_scalar=4,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
        sliding_window=WINDOW,
        **SLIDING,
    ),
    "phi3": _llama_shaped("phi3", sliding_window=WINDOW),
    "olmo2": _llama_shaped("olmo2"),
}
"""Those of which every gradient is compared."""

_SIZES = {
    **LLAMA_SHAPED,
    **GPT2_SHAPED,
    "d_model": 16,
    "dff": 24,
    "ffn_dim": 24,
    "ffn_hidden_size": 24,
    "word_embed_proj_dim": 16,
    "n_layers": NUM_BLOCKS,
    "num_layers": NUM_BLOCKS,
    "n_heads": 4,
    "num_heads": 4,
    "head_dim": 4,
    "max_seq_len": POSITIONS,
    "rotary_dim": 4,
    "sliding_window": WINDOW,
    "window_size": WINDOW,
    "attention_types": [[["global", "local", "global"], 1]],
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    # Of recurrences: written for no kernel, they make tensors of chunk by chunk by head by state.
    "chunk_size": 8,
    "mamba_chunk_size": 8,
    "mamba_d_state": 8,
    "ssm_state_size": 8,
    "state_size": 8,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
# Of towers for images and sounds, which text does not run through.
_TOWER_SIZES = {
    "depth": 2,
    "embed_dim": 8,
    "head_dim": 4,
    "hidden_size": 8,
    "image_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_heads": 2,
    "num_hidden_layers": 2,
    "out_hidden_size": 16,
    "output_dim": 16,
    "patch_size": 4,
    "vision_output_dim": 16,
}
# Where the sizes do not fit each other, or kinds of blocks are counted.
_OWN: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 4, "mamba_d_head": 8},
    "blenderbot": {"encoder_attention_heads": 4, "decoder_attention_heads": 4},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8},
    "gemma4": {"image_token_id": 1, "audio_token_id": 1, "video_token_id": 1},
    "gemma4_unified": {"image_token_id": 1, "audio_token_id": 1, "video_token_id": 1},
    # Those that have inputs of each token in every block are refused.
    "gemma4_text": {
        "global_head_dim": 4,
        "hidden_size_per_layer_input": 0,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "num_global_key_value_heads": 2,
        "num_kv_shared_layers": 0,
    },
    "granitemoehybrid": {
        "layer_types": ["mamba", "mamba", "attention"],
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
    },
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention"]},
    "plbart": {"encoder_attention_heads": 4, "decoder_attention_heads": 4},
    "mamba2": {"num_heads": 4, "head_dim": 8, "n_groups": 1},
    "xmod": {"default_language": "en_XX"},
}


def shrunk(model_type: str) -> PretrainedConfig:
    """A tiny configuration of any family: the sizes that its own configuration knows."""
    kind = CONFIG_MAPPING[model_type]
    default = kind()
    parts = {name: getattr(default, name, None) for name in getattr(kind, "sub_configs", {})}
    nested = {
        name: {"model_type": part.model_type, **_sizes_of(part, is_text="text" in name)}
        for name, part in parts.items()
        if part is not None
    }
    return kind(**(_sizes_of(default, is_text=True) | nested))


def _sizes_of(default: PretrainedConfig, *, is_text: bool) -> dict[str, Any]:
    known = {
        name: value
        for name, value in (_SIZES if is_text else _TOWER_SIZES).items()
        # What follows from other sizes is not for others to say.
        if _knows(default, name) and not isinstance(getattr(type(default), name, None), property)
    }
    if "kv_lora_rank" in known:
        # Keys and values of all heads come out of one latent.
        known["num_key_value_heads"] = known["num_attention_heads"]
    return known | (_OWN.get(default.model_type, {}) if is_text else {})


def _knows(config: PretrainedConfig, name: str) -> bool:
    try:
        return hasattr(config, name)
    except RuntimeError:
        # Each of its blocks has its own.
        return True


def made(
    config: PretrainedConfig, attention: str | None = None, *, kind: Any = AutoModelForCausalLM
) -> PreTrainedModel:
    """A model as its class initialises it; ``kind`` is as in `random_model`."""
    make = kind.from_config if hasattr(kind, "from_config") else kind._from_config
    model: PreTrainedModel = make(config, dtype=torch.float32, attn_implementation=attention)
    return model


def random_model(
    config: PretrainedConfig, attention: str | None = None, *, kind: Any = AutoModelForCausalLM
) -> PreTrainedModel:
    """A model with random weights, the same at every call.

    ``kind`` is a class of models, or one of transformers' that choose a class.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = made(config, attention, kind=kind)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    nn.init.normal_(parameter, std=0.25)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def save(model: PreTrainedModel, folder: Path, **settings: Any) -> Path:
    """Save a model without the bar that transformers shows."""
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder, **settings)
    return folder


@functools.cache
def _root() -> Path:
    root = tempfile.TemporaryDirectory(prefix="hsplit-families-")
    atexit.register(root.cleanup)
    return Path(root.name)


@functools.cache
def checkpoint(name: str) -> Path:
    """Folder of the family's model, in one safetensors file; not to be changed."""
    family = FAMILIES[name]
    return save(random_model(family.config(), family.attention), _root() / name)


def packed(seed: int = 0, *, with_mask: bool = False) -> dict[str, Tensor]:
    """Three rows of documents in a row, whose positions begin anew with each.

    Without a mask they are kept apart. With one, each attends to those before it.
    """
    lengths = torch.tensor([[4, 3, 2], [9, 0, 0], [2, 2, 5]])
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in lengths])
    made = fields("unpadded", seed)
    labels = made["labels"].where(positions > 0, IGNORED)
    kept = made if with_mask else {"input_ids": made["input_ids"]}
    return {**kept, "labels": labels, "position_ids": positions}


def fields(kind: str = "unpadded", seed: int = 0, seq: int = 9) -> dict[str, Tensor]:
    """Token ids, mask and labels of three rows: ``unpadded``, ``right`` or ``left`` padded.

    The first tokens of a row are a prompt, without labels.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (3, seq), generator=generator)
    mask = torch.ones_like(ids)
    labels = ids.clone()
    labels[:, :2] = IGNORED
    for row, missing in enumerate((0, 2, 4) if kind != "unpadded" else ()):
        padding = slice(seq - missing, seq) if kind == "right" else slice(0, missing)
        mask[row, padding] = 0
        ids[row, padding] = 0
        labels[row, padding] = IGNORED
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
