"""The card of a run's adapter, or of another one that is made of it."""

from collections.abc import Mapping
from typing import Any

import torch

from ..adapters import LowRank
from ..methods import Method
from ..reports.history import RunHistory
from ..reports.model_card import CardFacts, model_card
from ..splitting import known_revision

# Of an app's own settings, what decides about the result beside the groups `chat`, `training`.
_OF_THE_APP = (
    "local-steps",
    "local-epochs",
    "partition",
    "partition-by",
    "dirichlet-alpha",
    "prompt",
)


def adapter_card(
    config: Mapping[str, Any],
    method: Method,
    history: RunHistory,
    updates: Mapping[str, LowRank],
    *,
    dtype: torch.dtype,
    dropped_energy: float,
    perplexities: tuple[float | None, float | None],
) -> str:
    """The text of the card.

    Parameters
    ----------
    config
        What the run was set to, as its folder has it.
    method, history
        Of the run.
    updates
        The adapter.
    dtype
        Of its numbers in the file.
    dropped_energy
        The share of what was learnt that is not in it.
    perplexities
        Of the base alone, and with this adapter; None was not measured.
    """
    model = config["model"]
    return model_card(
        CardFacts(
            base_model=model["name"],
            revision=known_revision(model["name"], model.get("revision") or ""),
            method_title=method.title,
            method_source=method.source,
            num_rounds=history.num_completed,
            num_clients=history.num_clients,
            dataset=config.get("dataset") or "",
            recipe=recipe_of(config),
            adapter_rank=max((update.rank for update in updates.values()), default=0),
            adapter_bytes=padded_bytes(updates, dtype),
            perplexity_before=perplexities[0],
            perplexity_after=perplexities[1],
            dropped_energy=dropped_energy,
        )
    )


def run_perplexities(
    config: Mapping[str, Any], history: RunHistory
) -> tuple[float | None, float | None]:
    """Of the base alone, and with the run's own adapter, as the run measured them.

    One that began with an adapter has not measured the base alone.
    """
    before = None if config.get("adapter") else history.perplexity_before
    return before, history.perplexity_after


def recipe_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What training was set to, by key."""
    own = {key: config[key] for key in _OF_THE_APP if key in config}
    return {**own, **(config.get("chat") or {}), **(config.get("training") or {})}


def padded_bytes(updates: Mapping[str, LowRank], dtype: torch.dtype) -> int:
    """The bytes of an adapter whose weights all have the highest of their ranks."""
    rank = max((update.rank for update in updates.values()), default=0)
    numbers = sum(each.in_features + each.out_features for each in updates.values() if each.rank)
    return rank * numbers * dtype.itemsize
