"""Strategies as these tests set them, for the tiny model and three unequal clients."""

from typing import Any

from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.settings import GROUPS, Planning, Training, Worker
from hsplit_flower.strategies import HSplitLoRA

# Three devices of which the first cannot afford every rank, and the last cuts higher.
FLEET = "0.35,0.6,1"
MAX_RANK = 6
# Enough where it does not matter how many weights there are. What a session has is the worker's
# memory, of which there is plenty.
FEW = Planning(max_rank=MAX_RANK, target_modules=("q_proj", "up_proj"), worker_session_rank=0)


def training(**settings: Any) -> Training:
    """Large steps, for batches as the clients have them."""
    return Training(batch_size=3, sequence_length=9, learning_rate=5e-3, **settings)


def grouped(**values: Any) -> dict[str, Any]:
    """What a strategy is made with, from fields of any group by their names, or whole groups.

    A ``worker`` that runs already is told from the settings of one.
    """
    arguments: dict[str, Any] = {}
    fields: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group = next((g for g in GROUPS if name in GROUPS[g].model_fields and g != "model"), None)
        if name == "worker" and not isinstance(value, Worker):
            arguments["running_worker"] = value
        elif name in GROUPS or group is None:
            arguments[name] = value
        else:
            fields.setdefault(group, {})[name] = value
    for group, own in fields.items():
        base = arguments.get(group, GROUPS[group]())
        arguments[group] = base.replace(**own)
    return arguments


def strategy_of(
    model: str, *, method: type[SplitStrategy] = HSplitLoRA, **settings: Any
) -> SplitStrategy:
    """The strategy; what is not said is as above, and nobody evaluates."""
    settings.setdefault("training", training())
    settings.setdefault("planning", FEW)
    settings.setdefault("fleet", FLEET)
    settings.setdefault("fraction_evaluate", 0.0)
    return method(model, settings.pop("training"), **grouped(**settings))
