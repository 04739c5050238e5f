"""What clients train on while their rounds are timed: batches of random tokens, full or padded."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hsplit_flower.types import IGNORED_LABEL

ROWS, SEQUENCE = 8, 64
# The longest row of an unequal batch: two thirds of what is planned for, as with real text.
SHORTEST_LONGEST = 22


def full_batch(generator: torch.Generator, length: int = SEQUENCE) -> dict[str, Tensor]:
    """Rows of random tokens, all of this length; by default as long as planned for."""
    tokens = torch.randint(3, 2048, (ROWS, length), generator=generator)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": tokens.clone(),
    }


def unequal_batch(generator: torch.Generator) -> dict[str, Tensor]:
    """Rows of many lengths, padded on the right to the longest, which is different each time."""

    def draw(least: int, most: int, count: int = 1) -> Tensor:
        return torch.randint(least, most + 1, (count,), generator=generator)

    longest = int(draw(SHORTEST_LONGEST, SEQUENCE))
    lengths = torch.cat([torch.tensor([longest]), draw(longest // 2, longest, ROWS - 1)])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    tokens = full_batch(generator, longest)["input_ids"] * mask
    labels = tokens.masked_fill(mask == 0, IGNORED_LABEL)
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


Draw = Callable[[torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """What all clients of a run train on, and how long its padded rows are in the mean."""

    draw: Draw
    mean_length: int


BATCHES = {
    "full batches": Batches(draw=full_batch, mean_length=SEQUENCE),
    "unequal batches": Batches(draw=unequal_batch, mean_length=(SHORTEST_LONGEST + SEQUENCE) // 2),
}
