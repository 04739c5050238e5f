"""What sessions that write are asked, for tests."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hsplit_flower.settings import SessionSpec
from hsplit_flower.wire.next_tokens import Extend
from hsplit_flower.worker import Stage
from tests.families import VOCABULARY
from tests.rounds import global_update
from tests.workers import load_worker

WIDTH = 16


def spec(cut: int = 2, kept_tokens: int = 100) -> SessionSpec:
    return SessionSpec.to_write(cut=cut, kept_tokens=kept_tokens)


def states(rows: int, new: int, seed: int) -> Tensor:
    return torch.randn(rows, new, WIDTH, generator=torch.Generator().manual_seed(seed))


def prompt(rows: int = 2, new: int = 5, seed: int = 0, **changes: Any) -> Extend:
    """The first tokens of rows, the last of which is filled up on its left."""
    mask = torch.ones(rows, new, dtype=torch.long)
    mask[-1, : rows - 1] = 0
    return Extend(
        step=1, hidden=states(rows, new, seed), attention_mask=mask, begins=True, **changes
    )


def unmasked(rows: int, new: int, num_choices: int) -> Extend:
    """The first tokens of rows that are all as long."""
    return replace(prompt(rows, new, seed=rows, num_choices=num_choices), attention_mask=None)


def token(step: int, rows: int = 2, seed: int = 1, **changes: Any) -> Extend:
    whole = Extend(step=step, hidden=states(rows, 1, seed), num_choices=VOCABULARY)
    return replace(whole, **changes)


def stage_of(name: str) -> Stage:
    stage = Stage(load_worker(name))
    stage.load_update(global_update(name))
    return stage
