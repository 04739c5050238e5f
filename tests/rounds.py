"""Where a round of a tiny family starts: a global update, ranks, and the settings of a session."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hsplit_flower.adapters import LowRank, compress, starting_points
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Architecture, read_architecture
from hsplit_flower.types import ScaleRule
from tests.families import FAMILIES
from tests.reference.dropout import with_dropout
from tests.reference.unsplit import Factors, Step, base_model, train, with_peft

UPDATE_RANKS = (0, 2, 4, 12)
"""No update, fewer and more directions than are trained, and enough to go into the weight."""
TRAINED_RANKS = (3, 0, 2, 1, 4)


@functools.cache
def architecture(name: str) -> Architecture:
    """The parts of a tiny family."""
    return read_architecture(FAMILIES[name].config())


def ranks(name: str) -> dict[str, int]:
    """A rank for every weight, 0 among them."""
    weights = architecture(name).weights
    return {w.name: TRAINED_RANKS[i % len(TRAINED_RANKS)] for i, w in enumerate(weights)}


def scale_rule(name: str) -> ScaleRule:
    """Each rule is that of some families."""
    rules = list(ScaleRule)
    return rules[list(FAMILIES).index(name) % len(rules)]


@functools.cache
def global_update(name: str) -> dict[str, LowRank]:
    """A global update as earlier rounds could have left it."""
    generator = torch.Generator().manual_seed(11)
    updates = {}
    for index, weight in enumerate(architecture(name).weights):
        rank = UPDATE_RANKS[index % len(UPDATE_RANKS)]
        update = LowRank(
            b=0.1 * torch.randn(weight.out_features, rank, generator=generator),
            a=torch.randn(rank, weight.in_features, generator=generator) / rank**0.5
            if rank
            else torch.zeros(0, weight.in_features),
        )
        updates[weight.name] = compress(update)
    return updates


def below(name: str, cut: int) -> dict[str, LowRank]:
    """The client's part of the global update."""
    weights = architecture(name).weights
    return {w.name: global_update(name)[w.name] for w in weights if w.block < cut}


@dataclass(frozen=True, kw_only=True)
class Start:
    """The factors that are trained and those that are not, and what is added to the weights."""

    trained: Factors
    frozen: Factors
    merged: dict[str, Tensor]


def start(name: str, spec: SessionSpec) -> Start:
    """Where all clients of ``spec`` start from the global update."""
    points = starting_points(
        architecture(name).weights,
        global_update(name),
        spec.ranks,
        start=spec.start,
        scaling=spec.scaling,
        seed=spec.seed,
    )
    return Start(
        trained={n: (p.trainable_b, p.trainable_a) for n, p in points.items()},
        frozen={n: (p.frozen.b, p.frozen.a) for n, p in points.items()},
        merged={n: p.merge.dense() for n, p in points.items() if p.merge is not None},
    )


def training_spec(name: str, cut: int, **settings: Any) -> SessionSpec:
    """A session that trains with unequal ranks and weight decay."""
    return SessionSpec(
        client=3,
        cut=cut,
        ranks=ranks(name),
        lora_alpha=4.0,
        scale_rule=scale_rule(name),
        weight_decay=0.01,
        seed=5,
        **{"learning_rate": 4e-3, **settings},
    )


def unsplit_steps(
    name: str, spec: SessionSpec, batches: Iterable[Mapping[str, Tensor]], **recipe: Any
) -> list[Step]:
    """What the whole model does with the batches of a session, from where the session starts.

    ``recipe`` is what else `train` takes.
    """
    at = start(name, spec)
    model = with_peft(base_model(name, at.merged), at.trained, spec.scaling, at.frozen)
    if spec.lora_dropout:
        recipe["before_pass"] = with_dropout(model, spec.lora_dropout, spec.dropout_seed)
    rate, decay = spec.learning_rate, spec.weight_decay
    return train(model, batches, learning_rate=rate, weight_decay=decay, **recipe)
