"""The unsplit model trained by PEFT, transformers and torch: what splitting must not change."""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LRScheduler
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from hsplit_flower.types import ScaleRule, Scaling
from tests.families import FAMILIES, IGNORED, checkpoint

Factors = dict[str, tuple[Tensor, Tensor]]
"""``(b, a)`` by weight name, the scale not folded in."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step computed, and the factors after it; by ``NAME.b`` and ``NAME.a``."""

    loss: float
    logits: Tensor
    gradients: dict[str, Tensor]
    factors: dict[str, Tensor]


@contextmanager
def peft_calls_old_names() -> Iterator[None]:
    """PEFT 0.21 reads an attribute that transformers 5.23 has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*is_gradient_checkpointing", category=FutureWarning
        )
        yield


def base_model(name: str, updates: Mapping[str, Tensor] | None = None) -> torch.nn.Module:
    """The family's whole model, with dense updates added to its weights in float64."""
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint(name), dtype=torch.float32, attn_implementation=FAMILIES[name].attention
    )
    with torch.no_grad():
        for weight, update in (updates or {}).items():
            module = model.get_submodule(weight)
            update = update.T if isinstance(module, Conv1D) else update
            module.weight.copy_((module.weight.double() + update.double()).float())
    return model


def with_peft(
    model: torch.nn.Module, factors: Factors, scaling: Scaling, frozen: Factors | None = None
) -> PeftModel:
    """The model with a PEFT adapter of these factors, and another that is not trained."""
    config = _config(model, factors, scaling)
    frozen_config = (
        _config(model, frozen, Scaling(alpha=1.0, rule=ScaleRule.CONSTANT)) if frozen else None
    )
    with peft_calls_old_names():
        peft_model = get_peft_model(model, config, "trained")
    _fill(peft_model, "trained", factors)
    if frozen_config is not None:
        peft_model.add_adapter("frozen", frozen_config)
        _fill(peft_model, "frozen", frozen)
        peft_model.base_model.set_adapter(["frozen", "trained"])
        for key, parameter in peft_model.named_parameters():
            if ".frozen." in key:
                parameter.requires_grad_(False)
    return peft_model


def _config(model: torch.nn.Module, factors: Factors, scaling: Scaling) -> LoraConfig:
    """PEFT's own rules, but for ``CONSTANT``, which it does not have."""
    ranks = {name: b.shape[1] for name, (b, _) in factors.items() if b.shape[1]}
    first = model.get_submodule(next(iter(ranks)))
    return LoraConfig(
        r=max(ranks.values()),
        target_modules=list(ranks),
        rank_pattern=ranks,
        lora_alpha=scaling.alpha,
        use_rslora=scaling.rule is ScaleRule.RSLORA,
        alpha_pattern=(
            {name: scaling.alpha * rank for name, rank in ranks.items()}
            if scaling.rule is ScaleRule.CONSTANT
            else {}
        ),
        lora_dropout=0.0,
        fan_in_fan_out=isinstance(first, Conv1D),
    )


@torch.no_grad()
def _fill(peft_model: PeftModel, adapter: str, factors: Factors) -> None:
    for name, (b, a) in factors.items():
        if b.shape[1]:
            layer = peft_model.base_model.model.get_submodule(name)
            layer.lora_B[adapter].weight.copy_(b)
            layer.lora_A[adapter].weight.copy_(a)


def trainable_factors(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Trainable LoRA factors of a model by ``NAME.b`` and ``NAME.a``, of whichever adapter."""
    found = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            name, _, kind = key.removeprefix("base_model.model.").rpartition(".lora_")
            found[f"{name}.{kind[0].lower()}"] = parameter
    return found


def _passed_back(
    model: PeftModel,
    group: list[Mapping[str, Tensor]],
    label_smoothing: float,
    tell: Callable[[int], None],
) -> tuple[float, Tensor]:
    """The mean loss over the targets of a group of batches, and the logits of its last batch."""
    num_tokens = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in group)
    loss = 0.0
    for index, batch in enumerate(group):
        tell(index)
        logits = model(**batch, use_cache=False).logits
        part = _loss_sum(logits, batch["labels"], label_smoothing) / num_tokens
        part.backward()
        loss += part.item()
    return loss, logits.detach()


def _loss_sum(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    return cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        labels[:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def train(
    model: PeftModel,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    scheduled: Callable[[torch.optim.Optimizer], LRScheduler] | None = None,
    accumulated: int = 1,
    label_smoothing: float = 0.0,
    max_norm: float = 0.0,
    before_pass: Callable[[int, int], None] = lambda step, index: None,
) -> list[Step]:
    """AdamW over the adapter's factors, a step for so many batches, its rate as a scheduler has it.

    The loss of a step is the mean over the target tokens of all its batches.
    """
    model.train()
    factors = trainable_factors(model)
    optimizer = torch.optim.AdamW(
        factors.values(),
        lr=learning_rate,
        betas=betas,
        eps=epsilon,
        weight_decay=weight_decay,
        fused=True,
    )
    scheduler = scheduled(optimizer) if scheduled else None
    steps = []
    rest = iter(batches)
    while group := list(itertools.islice(rest, accumulated)):
        tell = functools.partial(before_pass, len(steps) + 1)
        loss, logits = _passed_back(model, group, label_smoothing, tell)
        gradients = {name: factor.grad.clone() for name, factor in factors.items()}
        if max_norm:
            torch.nn.utils.clip_grad_norm_(factors.values(), max_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        optimizer.zero_grad()
        steps.append(
            Step(
                loss=loss,
                logits=logits,
                gradients=gradients,
                factors={name: factor.detach().clone() for name, factor in factors.items()},
            )
        )
    return steps
