"""The main job on real text: federated, split and unequal against centralised PEFT LoRA.

Both sides train llama-tiny on E2E with one learning rate and alpha, and are measured on the same
dev examples. The federated side is ``flwr run apps/nlg`` as a user types it; the centralised side
is plain PEFT on the whole model and all training examples, with as many adapter bytes as the mean
client has on both sides of its cut, and as many examples a step as all clients together.
"""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from peft import PeftModel

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.tools.app_run import app_run
from benchmarks.trial import Setting, base_model, centralised, encoded, perplexity
from hsplit_flower.data import load_examples, pad_token_id, thinned
from hsplit_flower.settings import Aggregation, Planning, Training
from hsplit_flower.settings import Settings as Group
from hsplit_flower.splitting import Checkpoint, load_tokenizer, read_architecture
from hsplit_flower.types import Start

MODEL = "llama-tiny"
RATIO = Target("<=", 1.08)
NUM_CLIENTS = 5
# What the centralised side runs too: the fastest on a processor at this size.
ATTENTION = "eager"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What both sides share."""

    dataset: str
    num_rounds: int
    local_steps: int
    evaluation_examples: int
    final_examples: int
    centralised_examples: int | None
    training: Training
    planning: Planning = field(default_factory=lambda: Planning(max_rank=6, worker_session_rank=2))
    aggregation: Aggregation = field(default_factory=lambda: Aggregation(momentum=0.3))

    @classmethod
    def from_settings(cls, settings: Settings, **other: int) -> "Job":
        """As large as the settings ask for, but for what is said otherwise."""
        folder = settings.shared_data / "e2e"
        if not (folder / "trainset.csv").is_file():
            raise SystemExit(f"the E2E data set is needed in {folder}, and is not there")
        quick = settings.quick
        sizes: dict[str, Any] = {
            "num_rounds": 2 if quick else 8,
            "local_steps": 2 if quick else 20,
            "evaluation_examples": 32 if quick else 1000,
            "final_examples": 64 if quick else 4672,
            "centralised_examples": 1000 if quick else None,
        }
        training = Training(
            learning_rate=8e-3,
            start=Start.RESTART,
            batch_size=4 if quick else 16,
            sequence_length=192,
            seed=settings.seeds[0],
        )
        return cls(dataset=str(folder.resolve()), training=training, **{**sizes, **other})

    def as_setting(self) -> Setting:
        """What of it the centralised side needs; it takes its products in float32."""
        return Setting(
            model=MODEL,
            dataset=self.dataset,
            budgets=(1.0,) * NUM_CLIENTS,
            training=self.training,
            num_rounds=self.num_rounds,
            local_steps=self.local_steps,
            autocast=False,
        )


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Run both sides and compare."""
    job = Job.from_settings(settings)
    # More threads than cores that are free stand in each other's way: one, as the clients have.
    torch.set_num_threads(1)
    started = time.perf_counter()
    run = federated(job, settings.scratch)
    federated_seconds = time.perf_counter() - started
    rounds = [line for line in run["metrics"] if line["kind"] == "training"]
    curve = [line["perplexity"] for line in run["metrics"] if line["kind"] == "server-evaluation"]
    plans = run["plans"]
    cuts = {part["cut"] for part in plans.values()}
    ranks = {rank for part in plans.values() for rank in part["ranks"].values()}
    yield Detail(name="federated", value={"perplexity": curve, "rounds": rounds})
    yield Figure(name="perplexity before", value=curve[0], unit="")
    yield Figure(name="perplexity, federated", value=curve[-1], unit="")
    yield Figure(name="seconds, federated", value=federated_seconds, unit="s")
    yield Figure(name="different cuts", value=len(cuts), unit="", target=Target(">=", 2))
    yield Figure(name="different ranks", value=len(ranks), unit="", target=Target(">=", 3))
    replans = sum(line["replanned"] for line in rounds[1:])
    yield Figure(name="re-plans", value=replans, unit="", target=Target(">=", 1))
    yield from _believed(rounds)

    adapted = PeftModel.from_pretrained(base_model(MODEL), str(run["folder"] / "adapter"))
    encode = partial(encoded, model=MODEL, max_length=job.training.sequence_length)
    pad_id = pad_token_id(load_tokenizer(MODEL))
    dev = load_examples(job.dataset, "dev")
    reloaded = perplexity(adapted, encode(thinned(dev, job.evaluation_examples)), pad_id)
    yield Figure(name="perplexity, adapter loaded by PEFT", value=reloaded, unit="")
    yield Figure(
        name="PEFT against reported",
        value=abs(reloaded / curve[-1] - 1.0),
        unit="relative",
        target=Target("<=", 5e-5),
    )
    rank = centralised_rank(plans)
    yield Figure(name="rank, centralised", value=rank, unit="")
    started = time.perf_counter()
    examples = load_examples(job.dataset, "train")
    train = encode(thinned(examples, job.centralised_examples or len(examples)))
    whole = centralised(job.as_setting(), train, pad_id, rank)
    yield Figure(name="seconds, centralised", value=time.perf_counter() - started, unit="s")
    final = encode(thinned(dev, job.final_examples))
    federated_final, centralised_final = (
        perplexity(model, final, pad_id) for model in (adapted, whole)
    )
    yield Figure(name="perplexity on all dev, federated", value=federated_final, unit="")
    yield Figure(name="perplexity on all dev, centralised", value=centralised_final, unit="")
    ratio = federated_final / centralised_final
    yield Figure(name="federated / centralised", value=ratio, unit="ratio", target=RATIO)


def _believed(rounds: list[dict[str, Any]]) -> Iterator[Figure]:
    """How far honest clients are from each other, and whether that was taken for a lie."""
    clients = [client for line in rounds for client in line["clients"].values()]
    longest = max(client["times-the-median"] for client in clients)
    shortened = sum(client["num-shortened"] for client in clients)
    yield Figure(name="longest change", value=longest, unit="medians")
    yield Figure(name="changes shortened", value=shortened, unit="", target=Target("==", 0))


def federated(
    job: Job, scratch: Path, more: Mapping[str, str | int | float | bool] = MappingProxyType({})
) -> dict[str, Any]:
    """``flwr run apps/nlg``, and what it leaves; ``more`` settings come last."""
    settings = {
        "dataset": job.dataset,
        "num-server-rounds": job.num_rounds,
        "local-steps": job.local_steps,
        "evaluation-examples": job.evaluation_examples,
        "partition": "dirichlet",
        "model.attention": ATTENTION,
        "simulation.fleet": "heterogeneous",
        "sampling.min-train-nodes": NUM_CLIENTS,
        "sampling.min-available-nodes": NUM_CLIENTS,
        **keys_of("training", job.training),
        **keys_of("planning", job.planning),
        **keys_of("aggregation", job.aggregation),
        **more,
    }
    folder, log = app_run(settings, scratch, NUM_CLIENTS)
    if not re.search(r"perplexity [\d.]+ -> [\d.]+ in", log):
        raise RuntimeError(f"flwr run did not measure what it has learnt:\n{log[-4000:]}")
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    plans = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["clients"]
    return {"folder": folder, "metrics": [json.loads(line) for line in lines], "plans": plans}


def keys_of(name: str, group: Group) -> dict[str, Any]:
    """What is set in a group, as keys of a run-config."""
    shown = group.shown()
    chosen = [field.key for field in group.known() if field.name in group.model_fields_set]
    return {f"{name}.{key}": shown[key] for key in chosen}


def centralised_rank(plans: Mapping[str, Any]) -> int:
    """The rank on every weight that comes nearest to the mean client's adapter bytes."""
    architecture = read_architecture(Checkpoint(source=MODEL).config())
    per_rank = {weight.name: weight.parameters_per_rank for weight in architecture.weights}
    mean: float = sum(
        rank * per_rank[name] for part in plans.values() for name, rank in part["ranks"].items()
    ) / len(plans)
    return max(1, math.floor(mean / sum(per_rank.values()) + 0.5))


BENCHMARK = Benchmark(
    name="main-job",
    summary="flwr run on E2E across five unequal clients against centralised PEFT LoRA.",
    measure=measure,
)
