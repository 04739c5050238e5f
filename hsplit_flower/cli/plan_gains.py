"""What a change of one setting would bring: the run planned anew with it."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..settings import RunSettings
from ..types import WireType
from .run_outlook import RunOutlook

# Micro-batches of a step: with fewer the link still waits, with more its round trips count.
NUM_MICRO_BATCHES = 4


@dataclass(frozen=True, kw_only=True)
class Change:
    """Other settings of a run.

    Attributes
    ----------
    words
        As it is typed.
    settings
        All of them.
    step_ratio
        How many steps go through as many examples as one did.
    """

    words: str
    settings: RunSettings
    step_ratio: int = 1


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A change, and the run with it; no run where nobody, or not the worker, holds its part."""

    words: str
    run: RunOutlook | None
    worker_bytes: float


def changes(settings: RunSettings) -> Iterator[Change]:
    """What may help and is not so yet, each alone."""
    link, training = settings.link, settings.training
    if link.wire_type is not WireType.INT8:
        yield Change(
            words="--wire-type int8",
            settings=settings.replace(link=link.replace(wire_type=WireType.INT8)),
        )
    if settings.model.dtype == "float32":
        yield Change(
            words="--dtype bfloat16",
            settings=settings.replace(model=settings.model.replace(dtype="bfloat16")),
        )
    if training.batch_size > 1:
        yield _with_batch(settings, training.batch_size // 2)
        if not training.micro_batch_size:
            yield _with_micro_batch(settings, -(-training.batch_size // NUM_MICRO_BATCHES))
    if not settings.worker.checkpointing:
        yield Change(
            words="--worker-checkpointing",
            settings=settings.replace(worker=settings.worker.replace(checkpointing=True)),
        )


def _with_batch(settings: RunSettings, batch_size: int) -> Change:
    ratio = -(-settings.training.batch_size // batch_size)
    return Change(
        words=f"--batch {batch_size}, {ratio} x steps",
        settings=settings.replace(training=settings.training.replace(batch_size=batch_size)),
        step_ratio=ratio,
    )


def _with_micro_batch(settings: RunSettings, size: int) -> Change:
    return Change(
        words=f"--micro-batch-size {size}",
        settings=settings.replace(training=settings.training.replace(micro_batch_size=size)),
    )
