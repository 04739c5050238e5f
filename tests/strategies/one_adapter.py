"""A round of SplitLoRA on the whole model: PEFT's adapters, and two optimizers of torch's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hsplit_flower.adapters import LowRank
from hsplit_flower.types import Scaling
from tests.reference.unsplit import base_model, trainable_factors, with_peft

Batches = Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The loss of each step of a client, and all factors as they were after its last."""

    losses: list[float]
    factors: dict[str, Tensor]


def one_after_the_other(
    family: str,
    pair: Mapping[str, LowRank],
    batches: Iterable[Batches],
    *,
    cut: int,
    rank: int,
    learning_rate: float,
) -> list[Trained]:
    """What clients do that are served in this order, each with all of its steps.

    Below the cut each begins with the pair, and with an optimizer of its own. Above it all go on
    with what the one before has left, factors and optimizer.
    """
    scale = Scaling().of(rank)
    raw = {name: (one.b / scale, one.a) for name, one in pair.items() if one.rank}
    model = with_peft(base_model(family), raw, Scaling()).train()
    factors = trainable_factors(model)
    below = {name: p for name, p in factors.items() if int(name.split(".")[2]) < cut}
    first = {name: parameter.detach().clone() for name, parameter in below.items()}
    above = torch.optim.AdamW(
        [p for name, p in factors.items() if name not in below],
        lr=learning_rate,
        weight_decay=0.0,
    )
    trained = []
    for own in batches:
        with torch.no_grad():
            for name, parameter in below.items():
                parameter.copy_(first[name])
        mine = torch.optim.AdamW(below.values(), lr=learning_rate, weight_decay=0.0)
        losses = []
        for batch in own:
            loss = model(**batch, use_cache=False).loss
            losses.append(float(loss.detach()))
            loss.backward()
            for optimizer in (mine, above):
                optimizer.step()
                optimizer.zero_grad()
        kept = {name: p.detach().clone() for name, p in factors.items()}
        trained.append(Trained(losses=losses, factors=kept))
    return trained
