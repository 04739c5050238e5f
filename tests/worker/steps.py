"""Requests of one client's steps, and what is looked at after them."""

from dataclasses import replace

import torch
from torch import Tensor

from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import Backward, Forward
from hsplit_flower.worker.session import Session
from tests.families import fields
from tests.rounds import ranks

FAMILY = "llama"
SPEC = SessionSpec(client=0, cut=2, ranks=ranks(FAMILY), learning_rate=1e-2, lora_alpha=4.0)
AT_CLIENT = SPEC.replace(labels=Labels.CLIENT)
BATCH = fields("right")


def hidden_state(seed: int = 0, seq: int = 9, width: int = 16) -> Tensor:
    return torch.randn(3, seq, width, generator=torch.Generator().manual_seed(seed))


def forward(step: int = 1, seed: int = 0, **changes: object) -> Forward:
    whole = Forward(
        step=step,
        hidden=hidden_state(seed),
        labels=BATCH["labels"],
        attention_mask=BATCH["attention_mask"],
    )
    return replace(whole, **changes)


def without_labels(step: int = 1, seed: int = 0) -> Forward:
    return forward(step, seed, labels=None)


def backward(step: int = 1, seed: int = 5) -> Backward:
    return Backward(step=step, gradient=0.1 * hidden_state(seed))


def factors_of(session: Session) -> dict[str, Tensor]:
    return {
        f"{name}.{kind}": factor.detach().clone()
        for name, trainable in session.trainables.items()
        for kind, factor in (("b", trainable.b), ("a", trainable.a))
    }


def is_equal(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return got.keys() == wanted.keys() and all(torch.equal(got[key], wanted[key]) for key in wanted)
