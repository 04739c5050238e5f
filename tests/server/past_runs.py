"""Folders of runs that are over, as an app leaves them."""

from collections.abc import Mapping
from pathlib import Path

import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.methods import HSPLIT_LORA, METHODS, MethodState
from hsplit_flower.reports import RunFolder, ServerEvaluationLine, TrainingLine
from hsplit_flower.reports.client_records import TrainedClient
from hsplit_flower.server import RunState
from hsplit_flower.server.checkpoint import write_state
from hsplit_flower.server.past_run import STATE_FILE
from hsplit_flower.settings import Aggregation, Model, Training
from hsplit_flower.splitting import Checkpoint, read_architecture
from hsplit_flower.types import AdapterType

SENT_RANK, LEARNT_RANK = 2, 5
TRAINING = Training(batch_size=4, sequence_length=160)


def learnt(base: str, *, rank: int = LEARNT_RANK, size: float = 0.02) -> dict[str, LowRank]:
    """Something of every weight of a base but the first, as a sum of what clients sent."""
    generator = torch.Generator().manual_seed(3)
    weights = read_architecture(Checkpoint(source=base).config()).weights
    return {
        weight.name: LowRank(
            b=size * torch.randn(weight.out_features, rank * (n > 0), generator=generator),
            a=torch.randn(rank * (n > 0), weight.in_features, generator=generator),
        )
        for n, weight in enumerate(weights)
    }


def state_after(updates: Mapping[str, LowRank], *, sent_rank: int = SENT_RANK) -> MethodState:
    """The state of a run that sends so many directions of each weight, and keeps the others."""
    options = Aggregation(
        mean_rank=sent_rank, rank_cap=sent_rank, adapter_dtype=AdapterType.FLOAT32
    )
    fresh = MethodState(updates={name: update.head(0) for name, update in updates.items()})
    return fresh.with_updates(updates, HSPLIT_LORA, options)


def trained_line(number: int, *dropped: str | None, completed: bool = True) -> TrainingLine:
    """A line of a round, with a client for each of these."""
    clients = {f"c{n}": TrainedClient(cut=1, dropped=reason) for n, reason in enumerate(dropped)}
    return TrainingLine(server_round=number, completed=completed, clients=clients)


def measured_line(number: int, perplexity: float) -> ServerEvaluationLine:
    """A line of an evaluation by the server."""
    return ServerEvaluationLine(server_round=number, loss=1.0, perplexity=perplexity)


def write_run(
    path: Path, *, base: str, strategy: str = "hsplit-lora", method: MethodState | None = None
) -> Path:
    """A run of two rounds that left this."""
    assert strategy in METHODS
    folder = RunFolder(path)
    folder.write_config(
        {
            "strategy": strategy,
            "dataset": "restaurants",
            "prompt": "plain",
            "evaluation-examples": 7,
            "local-steps": 3,
            "model": Model(name=base).shown(),
            "training": TRAINING.shown(),
            "planning": {"of another version": 1},
        }
    )
    folder.add_metrics(measured_line(0, 40.0))
    folder.add_metrics(trained_line(1, None, None, "slow"))
    folder.add_metrics(measured_line(1, 4.0))
    state = RunState.fresh([]).with_method(method or state_after(learnt(base)))
    write_state(state, path / STATE_FILE)
    return path
