"""One trial: perplexity after each round, and what was trained and known."""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from benchmarks.study.arms import CENTRAL_RANK, CENTRALISED
from benchmarks.trial import (
    Examples,
    Round,
    Setting,
    centralised_rounds,
    examples_of,
    perplexity,
    rounds,
)
from benchmarks.trial.whole_model import architecture_of
from hsplit_flower.adapters import LowRank
from hsplit_flower.errors import HSplitError
from hsplit_flower.methods import RankRule

DIGITS = 5


def curve_of(setting: Setting) -> list[dict[str, Any]]:
    """A row for each round; a trial that diverged has fewer, and None where it did."""
    examples = _examples(**examples_of(setting))
    found = _centralised if setting.method.name == CENTRALISED.name else _federated
    curve = []
    try:
        for row in found(setting, examples):
            curve.append(row)
            if row["perplexity"] is None:
                break
    except HSplitError:
        # A loss or an importance that is not finite any more.
        curve.append({"perplexity": None})
    return curve


def _federated(setting: Setting, examples: Examples) -> Iterator[dict[str, Any]]:
    for one in rounds(setting, examples):
        yield _row(setting, one)


def _row(setting: Setting, one: Round) -> dict[str, Any]:
    row: dict[str, Any] = {"perplexity": _finite(one.perplexity)}
    if setting.method.has_adapters:
        trained = (_mean_rank(setting, result.updates) for result in one.results.values())
        row["trained"] = [round(rank, 3) for rank in trained]
        row["global"] = round(_mean_rank(setting, one.state.updates), 3)
    is_last = one.number == setting.num_rounds
    if is_last and setting.method.ranks is RankRule.BY_IMPORTANCE:
        scores = one.state.importance.scores
        row["importance"] = {name: float(f"{score:.3g}") for name, score in scores.items()}
    return row


def _centralised(setting: Setting, examples: Examples) -> Iterator[dict[str, Any]]:
    everything = [example for part in examples.parts for example in part]
    for model in centralised_rounds(setting, everything, examples.pad_id, CENTRAL_RANK):
        found = perplexity(model, examples.dev, examples.pad_id)
        yield {"perplexity": _finite(found), "trained": [CENTRAL_RANK], "global": CENTRAL_RANK}


def _mean_rank(setting: Setting, updates: Mapping[str, LowRank]) -> float:
    """The rank that would have as many numbers on all weights."""
    weights = architecture_of(setting.model).weights
    numbers = sum(
        updates[weight.name].rank * weight.parameters_per_rank
        for weight in weights
        if weight.name in updates
    )
    return numbers / sum(weight.parameters_per_rank for weight in weights)


def _finite(number: float) -> float | None:
    return round(number, DIGITS) if math.isfinite(number) else None


# Many trials train on the same examples.
_examples = lru_cache(maxsize=3)(Examples.load)
