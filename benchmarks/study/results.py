"""All that the study has found so far, as plain values: what pictures and tables are made of."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.harness.machine import ROOT
from benchmarks.study.arms import CENTRALISED, ROWS
from benchmarks.study.fleet import STANDS_FOR
from benchmarks.study.link_sweep import all_of_it
from benchmarks.study.run import Look, Study, Tuned
from benchmarks.study.summary import Line, as_json, line_of, of_json
from benchmarks.trial import Curve, base_model, encoded, perplexity
from hsplit_flower.data import load_examples, pad_token_id, thinned
from hsplit_flower.splitting import load_tokenizer

FOLDER: Final = ROOT / "docs" / "study"
RESULTS: Final = FOLDER / "results.json"
TRIALS: Final = FOLDER / "trials.jsonl"
DIVERGED, LEFT_OUT, NOT_RUN = "diverged", "nobody can take part", "not run"
NO_CLIENTS = "has no clients"


def found(
    studies: Sequence[Study], look: Look, costs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Curves by base, world, fleet and method, learning rates, importance, and the cost model's.

    ``costs`` are those of the cost model where they are known already.
    """
    bases = {study.base: _base(study, look) for study in studies}
    if costs is None:
        costs = all_of_it([STANDS_FOR[study.base] for study in studies])
    return {"bases": bases, "costs": costs}


def _base(study: Study, look: Look) -> dict[str, Any]:
    tuned = study.tuned(look)
    before = base_perplexity(study)
    found: dict[str, Any] = {
        "size": {
            "rounds": study.plain.num_rounds,
            "steps": study.plain.local_steps,
            "batch": study.plain.training.batch_size,
            "evaluation_examples": study.plain.evaluation_examples,
            "seeds": list(study.seeds),
        },
        "before": round(before, 4),
        "learning_rates": _rates(tuned),
        "cells": {},
    }
    for world, fleet in study.parts:
        curves = study.curves(look, tuned, world, fleet)
        enforced = study.taking_part(world, fleet)
        cells = found["cells"].setdefault(world, {}).setdefault(fleet, {})
        for name in study.methods:
            if enforced is not None and not enforced[name]:
                cells[name] = NO_CLIENTS if ROWS[name] == CENTRALISED else LEFT_OUT
            else:
                cells[name] = _cell(study, curves.get(name), world, fleet, name, before)
        if world == "room" and "hsplit-lora" in curves:
            found.setdefault("importance", {})[fleet] = _importance(curves["hsplit-lora"])
    return found


def _cell(
    study: Study,
    curves: Mapping[int, Curve] | None,
    world: str,
    fleet: str,
    name: str,
    before: float,
) -> dict[str, Any] | str:
    if not curves:
        return NOT_RUN
    line = line_of(
        curves,
        base=study.base,
        world=world,
        fleet=fleet,
        method=name,
        before=before,
        num_steps=study.plain.local_steps,
    )
    return DIVERGED if line is None else as_json(line)


def base_perplexity(study: Study) -> float:
    """Before any round, on the examples of all trials."""
    setting = study.plain
    dev = thinned(load_examples(setting.dataset, "dev"), setting.evaluation_examples)
    length = setting.training.sequence_length
    examples = encoded(dev, model=setting.model, max_length=length)
    return perplexity(
        base_model(setting.model), examples, pad_token_id(load_tokenizer(setting.model))
    )


def lines_of(cells: Mapping[str, Any]) -> dict[str, Line]:
    """The methods that have curves, in the order of the catalogue."""
    return {name: of_json(cells[name]) for name in ROWS if isinstance(cells.get(name), dict)}


def write(value: Mapping[str, Any], path: Path) -> None:
    """As JSON, a line for each method."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(value) + "\n", encoding="utf-8")


def read(path: Path = RESULTS) -> dict[str, Any]:
    """What `write` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _text(value: Any, depth: int = 0) -> str:
    """Short values on one line, long ones by their keys."""
    flat = json.dumps(value, allow_nan=False)
    if len(flat) <= 1000 or not isinstance(value, dict):
        return flat
    inner = " " * (depth + 1)
    rows = [f"{inner}{json.dumps(key)}: {_text(one, depth + 1)}" for key, one in value.items()]
    return "{\n" + ",\n".join(rows) + "\n" + " " * depth + "}"


def _rates(tuned: Tuned) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            f"{rate:g}": round(loss, 4) if math.isfinite(loss) else None
            for rate, loss in sorted(losses.items())
        }
        for name, losses in tuned.items()
    }


def _importance(curves: Mapping[int, Curve]) -> dict[str, float]:
    """Shares of each weight after the last round, in the mean over seeds."""
    shares: dict[str, float] = {}
    for curve in curves.values():
        scores = curve[-1]["importance"]
        total = sum(scores.values())
        for name, score in scores.items():
            shares[name] = shares.get(name, 0.0) + score / total / len(curves)
    return {name: float(f"{share:.4g}") for name, share in shares.items()}
