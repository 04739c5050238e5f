"""What of a setting is written down with its result, and found again.

Names and values are those of the files that were written first, so that these stay of use.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.trial.setting import Setting
from hsplit_flower.methods import HSPLIT_LORA, RankRule

ALLOCATIONS = {RankRule.BY_IMPORTANCE: "importance"}


def as_kept(setting: Setting) -> dict[str, Any]:
    """Plain values of all that decides a result."""
    training = setting.method.training(setting.training)
    planning, aggregation = setting.planning, setting.aggregation
    rule = setting.method.ranks
    return {
        "method": setting.method.name,
        "model": setting.model,
        "dataset": setting.dataset,
        "seed": training.seed,
        "budgets": list(setting.budgets),
        "absent": list(setting.absent),
        "cut": setting.cut if setting.method.shares_server_adapter else 0,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "lora_alpha": training.lora_alpha,
        "scale_rule": training.scale_rule.value,
        "allocation": "floor" if setting.floor else ALLOCATIONS.get(rule, rule.value),
        "start": training.start.value,
        "dividing": aggregation.dividing.value,
        "one_draw": setting.method.one_draw,
        "pruning": asdict(setting.method.pruning) if setting.method.pruning else None,
        "mean_rank": aggregation.mean_rank,
        "rank_cap": (aggregation.largest_rank or 0) if aggregation.is_bounded else 0,
        "adapter_dtype": aggregation.adapter_dtype.value if aggregation.is_bounded else "float32",
        "drop_below": aggregation.drop_below,
        "momentum": aggregation.momentum,
        "rank_unit": planning.rank_unit,
        "max_rank": planning.max_rank,
        "gain_base": planning.gain_base,
        "means": setting.means,
        "probe_steps": setting.probe_steps,
        "history": setting.history,
        "num_rounds": setting.num_rounds,
        "local_steps": setting.local_steps,
        "batch_size": training.batch_size,
        "evaluation_examples": setting.evaluation_examples,
        "max_length": training.sequence_length,
        "autocast": setting.autocast,
    }


FIRST_FILES = {
    "method": HSPLIT_LORA.name,
    "absent": [],
    "cut": 0,
    "weight_decay": 0.0,
    "one_draw": False,
    "pruning": None,
    "mean_rank": 0,
    "rank_cap": 0,
    "adapter_dtype": "float32",
    "drop_below": 0.0,
    "momentum": 0.0,
}
"""What the first files do not say, because there was no other."""


def key_of(kept: Mapping[str, Any]) -> str:
    """Kept values as one text, the same wherever the data and the base lie."""
    names = {name: Path(str(kept[name])).name for name in ("model", "dataset")}
    return json.dumps({**FIRST_FILES, **kept, **names}, sort_keys=True)
