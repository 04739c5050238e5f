"""What is compared: methods, fleets, worlds, and the trial that each comparison is made of.

In the world with *room* every device holds what every method asks for, and devices differ in the
adapter bytes that they train. In the *enforced* world they have the memory of the paper's fleet,
and train what the planner gives them for it (`benchmarks.study.budgets`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.trial import Setting
from hsplit_flower.methods import FED_LORA, FULL_TUNING, METHODS, Method
from hsplit_flower.settings import Training

SEED, LEARNING_RATE = "training.seed", "training.learning_rate"
CENTRALISED: Final = replace(
    FED_LORA,
    name="centralised-lora",
    title="Centralised LoRA",
    source="Hu et al., arXiv 2106.09685",
)
ROWS: Final[Mapping[str, Method]] = {**METHODS, CENTRALISED.name: CENTRALISED}
HETEROGENEOUS, HOMOGENEOUS = "heterogeneous", "homogeneous"
ROOM, ENFORCED = "room", "enforced"
# In the order in which they are run: those of the paper's claims first.
PAPER: Final = ("hsplit-lora", "split-lora", "het-lora", "full-tuning", CENTRALISED.name)
OTHERS: Final = ("fed-lora", "flora", "flex-lora")
COMPONENTS: Final = ("hsplit-lora-uniform", "hsplit-lora-one-cut", "hsplit-lora-padded")
GROUPS: Final = (PAPER, OTHERS, COMPONENTS)
# Adapter bytes of five devices, 1 : 1.6 : 2.2 : 3 : 4, as ranks over all weights.
ADAPTER_RANKS: Final = {
    HETEROGENEOUS: (2.0, 3.2, 4.4, 6.0, 8.0),
    HOMOGENEOUS: (4.72,) * 5,
}
CENTRAL_RANK: Final = 5
# Ascending; the climb begins at the third and fourth.
ADAPTER_RATES: Final = (1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3)
WEIGHT_RATES: Final = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained in a trial."""

    num_rounds: int = 4
    local_steps: int = 4
    batch_size: int = 2
    evaluation_examples: int = 40


def rates_of(method: Method) -> tuple[float, ...]:
    """The grid of a method's learning rates."""
    return ADAPTER_RATES if method.has_adapters else WEIGHT_RATES


def plain(*, model: str, dataset: str, size: Size) -> Setting:
    """What all trials on a base have in common."""
    return Setting(
        model=model,
        dataset=dataset,
        budgets=ADAPTER_RANKS[HOMOGENEOUS],
        training=Training(batch_size=size.batch_size),
        num_rounds=size.num_rounds,
        local_steps=size.local_steps,
        evaluation_examples=size.evaluation_examples,
        autocast=False,
    )


def with_room(base: Setting, method: Method, fleet: str, *, rate: float, seed: int) -> Setting:
    """A method's trial where everybody holds what it asks for."""
    budgets = ADAPTER_RANKS[fleet]
    if method in (CENTRALISED, FULL_TUNING):
        # Nothing in them depends on the devices' adapters: one trial for both fleets.
        budgets = ADAPTER_RANKS[HOMOGENEOUS]
    return _of(base, method, rate, seed, {"budgets": budgets})


def as_planned(
    base: Setting, method: Method, ranks: Mapping[int, float], *, rate: float, seed: int
) -> Setting:
    """A method's trial with these mean ranks; devices that are missing are left out."""
    clients = range(len(base.budgets))
    # The lowest of all is looked at, so what stands for one that is left out is the highest.
    budgets = tuple(float(ranks.get(client, max(ranks.values()))) for client in clients)
    absent = tuple(client for client in clients if client not in ranks)
    return _of(base, method, rate, seed, {"budgets": budgets, "absent": absent})


def _of(
    base: Setting, method: Method, rate: float, seed: int, changes: Mapping[str, Any]
) -> Setting:
    return base.changed({"method": method, LEARNING_RATE: rate, SEED: seed, **changes})
