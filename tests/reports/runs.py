"""A run of three clients as its folder tells it: one drops out, one is left out, one is fine."""

import math
from pathlib import Path

from hsplit_flower.reports import (
    ClientEvaluationLine,
    PlanRecord,
    Run,
    RunFolder,
    ServerEvaluationLine,
    TrainingLine,
    read_run,
)
from hsplit_flower.reports.client_records import EvaluatedClient, LeftOut, TrainedClient
from hsplit_flower.reports.plan import LeftOutNode, PlannedClient

WORKER = "127.0.0.1:50051"
NO_ROOM = "it has 20 MB, its smallest part needs 50 MB, it lacks 30 MB"


def trained(number: int, *, dropped: str | None = None) -> TrainedClient:
    """A client's part of a round, in which losses fall by 1."""
    if dropped is not None:
        return TrainedClient(
            cut=1,
            dropped=dropped,
            budget_bytes=1e8,
            predicted_bytes=6e7,
            worker_up_bytes=400_000,
            worker_down_bytes=200_000,
            flower_up_bytes=None,
            flower_down_bytes=3_000,
        )
    return TrainedClient(
        cut=2,
        worker=WORKER,
        sum_of_ranks=24,
        least_rank=4,
        largest_rank=8,
        predicted_bytes=8e7,
        peak_bytes=7.5e7,
        budget_bytes=1e8,
        worker_up_bytes=1_000_000,
        worker_down_bytes=500_000,
        flower_up_bytes=2_000,
        flower_down_bytes=3_000,
        setup_seconds=0.5,
        computing_seconds=4.0,
        worker_seconds=2.0,
        link_seconds=1.0,
        others_seconds=3.0,
        seconds=7.0,
        num_steps=10,
        num_tokens=640,
        loss=5.0 - number,
        loss_before=5.5 - number,
        loss_after=4.5 - number,
    )


def example_run(folder: Path, *, name: str = "clinic-a") -> Run:
    """What is read of it; the client that is fine has this name."""
    run = RunFolder(folder)
    run.write_config({"strategy": "hsplit-lora", "model": {"name": "tiny"}, "local-steps": 10})
    run.add_metrics(ServerEvaluationLine(server_round=0, loss=4.0, perplexity=54.6))
    left_out = {"clinic-c": LeftOut(kind="memory", reason=NO_ROOM, needed_bytes=5e7)}
    for number in (1, 2):
        reason = "its card fell off" if number == 2 else None
        clients = {name: trained(number), "clinic-b": trained(number, dropped=reason)}
        run.add_metrics(
            TrainingLine(
                server_round=number,
                completed=True,
                replanned=number == 1,
                planning_reason="the first round",
                clients=clients,
                left_out=left_out,
            )
        )
        found = EvaluatedClient(cut=2, loss=3.0 - number, perplexity=math.exp(3.0 - number))
        run.add_metrics(ClientEvaluationLine(server_round=number, clients={name: found}))
        run.add_metrics(ServerEvaluationLine(server_round=number, loss=2.0, perplexity=7.39))
    run.write_plan(
        PlanRecord(
            server_round=2,
            clients={
                name: PlannedClient(
                    node=13816022929839679101,
                    cut=2,
                    binds="memory",
                    why="cut 3 takes 120 MB with the lowest ranks, it has 100 MB",
                )
            },
            left_out={"clinic-c": LeftOutNode(node=7, kind="memory", reason=NO_ROOM)},
        )
    )
    return read_run(folder)
