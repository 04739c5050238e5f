"""The rounds of one setting: train each client's adapters, aggregate exactly, choose ranks anew."""

import copy
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.trial.ranks import choose
from benchmarks.trial.setting import Setting
from hsplit_flower.adapters import LowRank, attach, collect, initial_update, starting_point
from hsplit_flower.adapters.round_start import weight_generator
from hsplit_flower.aggregation import ClientUpdate, aggregate_adapters
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
from hsplit_flower.importance import (
    ImportanceHistory,
    ImportanceReport,
    blend,
    history_weight,
    mean_scores,
    probing,
)
from hsplit_flower.metrics import TokenLoss, token_loss
from hsplit_flower.planning import drift
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
    architecture = read_architecture(Checkpoint(source=setting.model).config())
    base = base_model(setting.model)
    updates = {
        weight.name: LowRank.zeros(weight.out_features, weight.in_features)
        for weight in architecture.weights
    }
    history = ImportanceHistory()
    curve = []
    for server_round in range(1, setting.num_rounds + 1):
        clients, reports = [], []
        for client, budget in enumerate(setting.budgets):
            ranks = choose(architecture, setting, budget, history.scores)
            trained, scores = _train(
                base, architecture, setting, examples, updates, ranks, server_round, client
            )
            num_examples = len(examples.parts[client])
            clients.append(
                ClientUpdate(
                    num_examples=num_examples,
                    trained=trained,
                    initial={
                        name: initial_update(updates[name], factors.rank, setting.start)
                        for name, factors in trained.items()
                    },
                )
            )
            reports.append(ImportanceReport(num_examples=num_examples, scores=scores))
        updates = dict(aggregate_adapters(updates, clients, dividing=setting.dividing).updates)
        history = _learned(history, mean_scores(reports), setting)
        curve.append(perplexity(_with_updates(base, updates), examples.dev, examples.pad_id))
        gc.collect()  # PEFT's layers refer to each other, so the clients' models linger
    return curve


def centralised(setting: Setting, train: list[EncodedExample], pad_id: int, rank: int) -> Any:
    """Plain PEFT LoRA trained on all examples, a batch as large as all clients'."""
    torch.manual_seed(setting.seed)
    architecture = read_architecture(Checkpoint(source=setting.model).config())
    config = LoraConfig(
        r=rank,
        lora_alpha=setting.scaling.of(rank) * rank,  # type: ignore[arg-type]
        target_modules=[weight.name for weight in architecture.weights],
        fan_in_fan_out=architecture.is_transposed,
    )
    model: Any = get_peft_model(base_model(setting.model), config)
    optimizer = _optimizer(model, setting)
    model.train()
    for batch in batches(
        train,
        len(setting.budgets) * setting.batch_size,
        steps=setting.num_rounds * setting.local_steps,
        seed=setting.seed,
        pad_id=pad_id,
    ):
        _loss(model, batch, setting).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model


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


def _train(
    base: Any,
    architecture: Architecture,
    setting: Setting,
    examples: Examples,
    updates: Mapping[str, LowRank],
    ranks: Mapping[str, int],
    server_round: int,
    client: int,
) -> tuple[dict[str, LowRank], dict[str, float]]:
    """One client's round on the whole model: its folded factors, and its weights' importance."""
    points = {
        name: starting_point(
            updates[name],
            rank=rank,
            start=setting.start,
            scale=setting.scaling.of(rank),
            generator=weight_generator(hash((setting.seed, server_round, client)), name),
        )
        for name, rank in ranks.items()
    }
    model = copy.deepcopy(base)
    trainables = attach(model, points, scaling=setting.scaling)
    optimizer = _optimizer(model, setting)
    model.train()
    scores = {weight.name: 0.0 for weight in architecture.weights}
    for step, batch in enumerate(
        batches(
            examples.parts[client],
            setting.batch_size,
            steps=setting.local_steps,
            seed=(setting.seed, server_round, client),
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
    return collect(trainables, scaling=setting.scaling), scores


def _loss(model: Any, batch: Mapping[str, Tensor], setting: Setting) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=setting.autocast):
        loss: Tensor = model(**batch, use_cache=False).loss
    return loss


def _optimizer(model: Any, setting: Setting) -> torch.optim.Optimizer:
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(factors, lr=setting.learning_rate, weight_decay=0.0)


def _learned(
    history: ImportanceHistory, today: Mapping[str, float], setting: Setting
) -> ImportanceHistory:
    if not setting.history:
        return ImportanceHistory(scores=today, num_rounds=history.num_rounds + 1)
    moved = drift(today, history.scores) if history.num_rounds else 1.0
    return blend(history, today, history_weight(history.num_rounds, moved))


def _with_updates(base: Any, updates: Mapping[str, LowRank]) -> Any:
    model = copy.deepcopy(base)
    for name, update in updates.items():
        add_to_weight_(linear_at(model, name), update.dense())
    return model
