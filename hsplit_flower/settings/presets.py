"""Recipes that others have published, by name: settings that hold where nothing else is said."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from .group import Settings


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Values by run-config key, and where they come from.

    Keys of an app, which have no dot, hold in apps that have them. ``quantises`` says whether the
    base is of four bits where the extra for that is installed.
    """

    source: str
    values: Mapping[str, Any]
    quantises: bool = False

    def chosen(self) -> dict[str, Any]:
        """The values, with those that depend on what is installed here."""
        if self.quantises and find_spec("bitsandbytes") is not None:
            return {**self.values, "model.dtype": "nf4"}
        return dict(self.values)


PRESETS: Mapping[str, Preset] = {
    "lora-e2e": Preset(
        source="LoRA on E2E (Hu et al. 2021, arXiv 2106.09685)",
        values={
            "training.batch-size": 4,
            "training.sequence-length": 512,
            "training.learning-rate": 2e-4,
            "training.weight-decay": 0.01,
            "training.schedule": "linear",
            # 500 steps of 52,576, which are five epochs.
            "training.warmup-steps": 0.01,
            "training.lora-alpha": 32.0,
            "training.lora-dropout": 0.1,
            "training.label-smoothing": 0.1,
        },
    ),
    "flowertune": Preset(
        source="the template of the FlowerTune LLM leaderboard (flower.ai/benchmarks)",
        values={
            "training.batch-size": 16,
            "training.sequence-length": 512,
            "training.learning-rate": 5e-5,
            "training.final-learning-rate": 1e-6,
            "training.schedule": "cosine",
            "training.schedule-over": "by-round",
            # That of transformers' trainer, which the template leaves as it is.
            "training.max-gradient-norm": 1.0,
            "training.lora-alpha": 64.0,
            "training.lora-dropout": 0.075,
            "planning.max-rank": 32,
            "planning.worker-session-rank": 32,
            "local-steps": 10,
        },
        quantises=True,
    ),
}


def preset_values(name: object) -> dict[str, Any]:
    """By key; nothing where no preset has this name."""
    preset = PRESETS.get(name) if isinstance(name, str) else None
    return {} if preset is None else preset.chosen()


def with_preset(
    name: str, groups: Mapping[str, Settings], kinds: Mapping[str, type[Settings]]
) -> dict[str, Settings]:
    """Groups by name, in which what was not set is as a preset has it.

    Parameters
    ----------
    name
        Of the preset.
    groups
        That were made; one that is missing has its defaults.
    kinds
        What groups there are.
    """
    filled = dict(groups)
    for key, value in preset_values(name).items():
        group, _, own = key.rpartition(".")
        field = own.replace("-", "_")
        if group not in kinds:
            continue
        made = filled.get(group) or kinds[group]()
        if field not in made.model_fields_set:
            filled[group] = made.replace(**{field: value})
    return filled
