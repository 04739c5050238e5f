"""Plain LoRA on the whole model and all texts, in one process."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from ..adapters import LowRank
from ..batches import checked
from ..client.whole_round import AdapterRound
from ..data import batches, encode_examples, load_examples, pad_token_id, thinned
from ..devices.memory_budget import Unmetered
from ..reports import RunFolder
from ..reports.metrics import CentralisedLine
from ..server import ServerEvaluation
from ..settings import Model, Planning, SessionSpec, Training
from ..splitting import (
    Architecture,
    Checkpoint,
    Parts,
    floating_dtype,
    load_half,
    load_tokenizer,
    read_architecture,
)
from ..splitting.target_modules import target_weights
from ..types import Weight
from ..wire.instructions import WholeTraining
from .centralised import Job
from .console import console

_Batches = Iterator[dict[str, Tensor]]


def make_centralised(job: Job, model: Model, training: Training, planning: Planning) -> Path:
    """Train, measure before and after, and give the folder that holds the result.

    Raises
    ------
    ConfigError
        If the folder holds a run already, or a name of target-modules is no weight's.
    DataError, UnsupportedModelError
        If texts or model cannot be read.
    NonFiniteError
        If a loss or gradient is not finite.
    """
    path = Path(job.out or Path("outputs") / time.strftime("centralised-%Y%m%d-%H%M%S"))
    base = Checkpoint(source=model.name, revision=model.revision or None)
    architecture = read_architecture(base.config())
    targets = target_weights(
        architecture.weights, planning.target_modules, model_type=architecture.model_type
    )
    train, dev = _texts(job, model, training)
    device = job.device or ("cuda" if torch.cuda.is_available() else "cpu")
    with RunFolder(path) as folder:
        evaluation = ServerEvaluation(model, dev, device=device)
        folder.write_config({**job.shown(), "model": model.shown(), "training": training.shown()})
        before = evaluation.evaluate({}).perplexity
        folder.add_metrics(CentralisedLine(step=0, perplexity=before))
        started = time.perf_counter()
        updates, loss = _trained(job, model, training, architecture, targets, train, device)
        seconds = time.perf_counter() - started
        after = evaluation.evaluate(updates).perplexity
        folder.add_metrics(
            CentralisedLine(step=job.steps, train_loss=loss, seconds=seconds, perplexity=after)
        )
        folder.write_adapter(
            updates,
            base_model=model.name,
            is_transposed=architecture.is_transposed,
            revision=model.revision,
        )
    console().print(
        f"perplexity {before:.4f} -> {after:.4f} in {seconds:.1f} s; "
        f"adapter: {path.resolve() / 'adapter'}"
    )
    return path


def _texts(job: Job, model: Model, training: Training) -> tuple[_Batches, Any]:
    """The steps' batches, and a function that gives the dev set's."""
    tokenizer = load_tokenizer(model.name, revision=model.revision or None)
    encoded = partial(
        encode_examples,
        tokenizer=tokenizer,
        max_length=training.sequence_length,
        style=job.prompt,
        on_long="drop",
    )
    own = partial(batches, pad_id=pad_token_id(tokenizer))
    train = own(
        encoded(load_examples(job.dataset, "train")),
        training.batch_size,
        steps=job.steps * training.gradient_accumulation_steps,
        seed=training.seed,
    )
    held_out = encoded(thinned(load_examples(job.dataset, "dev"), job.evaluation_examples))
    return train, partial(own, held_out, training.batch_size)


def _trained(
    job: Job,
    model: Model,
    training: Training,
    architecture: Architecture,
    targets: Sequence[Weight],
    train: _Batches,
    device: str,
) -> tuple[Mapping[str, LowRank], float]:
    """The adapter, and the mean loss of its steps."""
    half = load_half(
        model.name,
        Parts.whole(architecture.num_blocks),
        revision=model.revision or None,
        dtype=floating_dtype(model.computes_in),
        quantised=model.quantised,
        device=device,
        attention=model.attention or None,
    )
    shared = {
        name: value for name, value in training.given().items() if name in SessionSpec.model_fields
    }
    spec = SessionSpec(
        **shared,
        client=0,
        cut=architecture.num_blocks,
        num_steps=job.steps,
        dropout_seed=training.seed,
        ranks={weight.name: job.rank for weight in targets},
    )
    steps = AdapterRound(half, {}, spec, WholeTraining(is_whole=True), Unmetered())
    num_batches = job.steps * training.gradient_accumulation_steps
    shown = track(train, total=num_batches, description="training", transient=True)
    outcome = steps.train(checked(shown, architecture, is_training=True), probe=False)
    return outcome.updates, outcome.loss.mean
