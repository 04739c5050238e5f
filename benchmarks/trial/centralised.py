"""Training on one machine that has all examples: what no method that keeps them apart passes."""

from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from benchmarks.trial.client import loss_of, optimizer_of
from benchmarks.trial.setting import Setting
from benchmarks.trial.whole_model import architecture_of, base_model
from hsplit_flower.data import EncodedExample, batches


def centralised(setting: Setting, train: list[EncodedExample], pad_id: int, rank: int) -> Any:
    """Plain PEFT LoRA trained on all examples, a batch as large as all clients'."""
    *_, model = centralised_rounds(setting, train, pad_id, rank)
    return model


def centralised_rounds(
    setting: Setting, train: list[EncodedExample], pad_id: int, rank: int
) -> Iterator[Any]:
    """The model, which is the same one, after as many steps as each round of clients has."""
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
    optimizer = optimizer_of(model, training)
    given = batches(
        train,
        len(setting.budgets) * training.batch_size,
        steps=setting.num_rounds * setting.local_steps,
        seed=training.seed,
        pad_id=pad_id,
    )
    for step, batch in enumerate(given, start=1):
        model.train()
        loss_of(model, batch, setting).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % setting.local_steps == 0:
            yield model
