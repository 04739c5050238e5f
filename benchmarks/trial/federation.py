"""The rounds of one setting: choose ranks, train each client's adapters, let the method go on."""

import copy
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.trial.ranks import choose
from benchmarks.trial.setting import Setting
from hsplit_flower.adapters import LowRank, attach, collect, starting_points
from hsplit_flower.data import (
    EncodedExample,
    Example,
    batches,
    encode_examples,
    labels_of,
    load_examples,
    pad_token_id,
    partition,
)
from hsplit_flower.importance import ImportanceHistory, probing
from hsplit_flower.methods import ClientResult, MethodState, advance
from hsplit_flower.metrics import TokenLoss, token_loss
from hsplit_flower.settings import Training
from hsplit_flower.splitting import (
    Architecture,
    Checkpoint,
    load_tokenizer,
    locate,
    read_architecture,
)
from hsplit_flower.splitting.linear import add_to_weight_, linear_at


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What clients are trained and measured on, tokenised once for many settings."""

    parts: list[list[EncodedExample]]
    dev: list[EncodedExample]
    pad_id: int

    @classmethod
    def load(
        cls,
        *,
        model: str,
        dataset: str,
        num_clients: int,
        seed: int,
        evaluation_examples: int,
        max_length: int,
    ) -> "Examples":
        """Of a data set for a model, divided among clients as the app divides it."""
        encode = partial(encoded, model=model, max_length=max_length)
        train = load_examples(dataset, "train")
        places = partition(labels_of(train), num_clients, scheme="dirichlet", seed=seed)
        return cls(
            parts=[encode([train[place] for place in part]) for part in places],
            dev=encode(thinned(load_examples(dataset, "dev"), evaluation_examples)),
            pad_id=pad_token_id(load_tokenizer(model)),
        )


def examples_of(setting: Setting) -> dict[str, Any]:
    """What `Examples.load` is asked for a setting."""
    return {
        "model": setting.model,
        "dataset": setting.dataset,
        "num_clients": len(setting.budgets),
        "seed": setting.training.seed,
        "evaluation_examples": setting.evaluation_examples,
        "max_length": setting.training.sequence_length,
    }


def encoded(examples: Sequence[Example], *, model: str, max_length: int) -> list[EncodedExample]:
    """Tokenised as the app tokenises."""
    return encode_examples(
        examples, load_tokenizer(model), max_length=max_length, style="plain", on_long="drop"
    )


def thinned(examples: Sequence[Example], count: int) -> Sequence[Example]:
    """At most ``count`` of them, as the app's server thins its dev examples."""
    return examples[:: max(1, len(examples) // count)][:count]


def federated(setting: Setting, examples: Examples) -> list[float]:
    """Dev perplexity after each round."""
    base = base_model(setting.model)
    state = MethodState.fresh(architecture_of(setting.model).weights)
    curve = []
    for server_round in range(1, setting.num_rounds + 1):
        state = after_round(base, setting, examples, state, server_round)
        curve.append(perplexity(with_updates(base, state.updates), examples.dev, examples.pad_id))
        gc.collect()  # PEFT's layers refer to each other, so the clients' models linger
    return curve


def after_round(
    base: Any, setting: Setting, examples: Examples, state: MethodState, server_round: int
) -> MethodState:
    """What the method knows after every client has trained once."""
    return aggregated(setting, state, trained(base, setting, examples, state, server_round))


def trained(
    base: Any, setting: Setting, examples: Examples, state: MethodState, server_round: int
) -> dict[int, ClientResult]:
    """What each client brings home from a round."""
    architecture = architecture_of(setting.model)
    return {
        client: train_client(
            base,
            setting,
            examples,
            state,
            choose(architecture, setting, budget, state.importance.scores),
            server_round=server_round,
            client=client,
        )
        for client, budget in enumerate(setting.budgets)
    }


def aggregated(
    setting: Setting, state: MethodState, results: Mapping[int, ClientResult]
) -> MethodState:
    """What the method knows after a round that brought this."""
    if not setting.history:
        state = replace(state, importance=ImportanceHistory())
    return advance(
        setting.method,
        state,
        results,
        start=setting.method.training(setting.training).start,
        options=setting.aggregation,
    )


def train_client(
    base: Any,
    setting: Setting,
    examples: Examples,
    state: MethodState,
    ranks: Mapping[str, int],
    *,
    server_round: int,
    client: int,
) -> ClientResult:
    """One client's round on the whole model: its folded factors, and its weights' importance."""
    training = setting.method.training(setting.training)
    weights = architecture_of(setting.model).weights
    # Who shares a draw of fresh factors has the first client's.
    drawn_by = 0 if setting.method.one_draw else client
    points = starting_points(
        weights,
        state.updates,
        ranks,
        start=training.start,
        scaling=training.scaling,
        seed=hash((training.seed, server_round, drawn_by)),
    )
    model = copy.deepcopy(base)
    trainables = attach(model, points, scaling=training.scaling)
    optimizer = _optimizer(model, training)
    model.train()
    scores = {weight.name: 0.0 for weight in weights}
    for step, batch in enumerate(
        batches(
            examples.parts[client],
            training.batch_size,
            steps=setting.local_steps,
            seed=(training.seed, server_round, client),
            pad_id=examples.pad_id,
        )
    ):
        probed = scores if step < setting.probe_steps else {}
        with probing(model, probed) as found:
            _loss(model, batch, setting).backward()
        for name, score in found.items():
            scores[name] += score / setting.probe_steps
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return ClientResult(
        num_examples=len(examples.parts[client]),
        updates=collect(trainables, scaling=training.scaling),
        importance=scores,
    )


def centralised(setting: Setting, train: list[EncodedExample], pad_id: int, rank: int) -> Any:
    """Plain PEFT LoRA trained on all examples, a batch as large as all clients'."""
    training = setting.training
    torch.manual_seed(training.seed)
    architecture = architecture_of(setting.model)
    config = LoraConfig(
        r=rank,
        lora_alpha=training.scaling.of(rank) * rank,  # type: ignore[arg-type]
        target_modules=[weight.name for weight in architecture.weights],
        fan_in_fan_out=architecture.is_transposed,
    )
    model: Any = get_peft_model(base_model(setting.model), config)
    optimizer = _optimizer(model, training)
    model.train()
    for batch in batches(
        train,
        len(setting.budgets) * training.batch_size,
        steps=setting.num_rounds * setting.local_steps,
        seed=training.seed,
        pad_id=pad_id,
    ):
        _loss(model, batch, setting).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model


def architecture_of(model: str) -> Architecture:
    """Its blocks and their weights."""
    return read_architecture(Checkpoint(source=model).config())


def base_model(name: str) -> Any:
    """The whole base, frozen; eager attention is the faster one at this size on a processor."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        locate(name), dtype=torch.float32, attn_implementation="eager"
    )
    return model.requires_grad_(False)


@torch.no_grad()
def perplexity(model: Any, dev: list[EncodedExample], pad_id: int) -> float:
    """Over the references' tokens and end tokens."""
    model.eval()
    total = TokenLoss()
    for batch in batches(dev, 64, pad_id=pad_id):
        labels = batch.pop("labels")
        total += token_loss(model(**batch, use_cache=False).logits, labels)
    return total.perplexity


def _loss(model: Any, batch: Mapping[str, Tensor], setting: Setting) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=setting.autocast):
        loss: Tensor = model(**batch, use_cache=False).loss
    return loss


def _optimizer(model: Any, training: Training) -> torch.optim.Optimizer:
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(factors, lr=training.learning_rate, weight_decay=training.weight_decay)


def with_updates(base: Any, updates: Mapping[str, LowRank]) -> Any:
    """A copy of the base with an adapter in its weights."""
    model = copy.deepcopy(base)
    for name, update in updates.items():
        add_to_weight_(linear_at(model, name), update.dense())
    return model
