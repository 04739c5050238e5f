"""The model, the data, a client's training and the server's evaluation; nothing of Flower."""

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from hsplit_flower.data import (
    batches,
    encode_examples,
    labels_of,
    load_examples,
    pad_token_id,
    partition,
    thinned,
)
from hsplit_flower.metrics import TokenLoss, token_loss
from hsplit_flower.splitting import load_tokenizer, locate

BASE = "llama-tiny"
DATASET = "restaurants"
LONGEST = 192

Config = Mapping[str, Any]


def get_model(config: Config) -> PeftModel:
    """The base with fresh LoRA on its queries and values."""
    torch.manual_seed(config["seed"])
    base = AutoModelForCausalLM.from_pretrained(
        locate(BASE), dtype=torch.float32, attn_implementation="eager"
    )
    lora = LoraConfig(r=config["lora-r"], lora_alpha=config["lora-alpha"], task_type="CAUSAL_LM")
    return get_peft_model(base, lora)


def get_examples(part: int, num_parts: int, config: Config) -> list[Any]:
    """What one client has of the training data: of some foods more than of others."""
    examples = load_examples(DATASET, "train")
    parts = partition(labels_of(examples), num_parts, scheme="dirichlet", seed=config["seed"])
    return _encoded([examples[place] for place in parts[part]])


def train(model: PeftModel, examples: list[Any], config: Config, server_round: int) -> float:
    """Some steps of AdamW; their mean loss."""
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(factors, lr=config["learning-rate"])
    losses = []
    model.train()
    for batch in batches(
        examples,
        config["batch-size"],
        steps=config["local-steps"],
        seed=(config["seed"], server_round),
        pad_id=_pad_id(),
    ):
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def perplexity(model: PeftModel, config: Config) -> float:
    """Of examples that no client trains on."""
    examples = thinned(load_examples(DATASET, "dev"), config["evaluation-examples"])
    total = TokenLoss()
    model.eval()
    for batch in batches(_encoded(examples), 32, pad_id=_pad_id()):
        labels = batch.pop("labels")
        total += token_loss(model(**batch, use_cache=False).logits, labels)
    return total.perplexity


def _encoded(examples: list[Any]) -> list[Any]:
    return encode_examples(examples, load_tokenizer(BASE), max_length=LONGEST, on_long="drop")


def _pad_id() -> int:
    return pad_token_id(load_tokenizer(BASE))
