"""Runs as their folders tell them, of any size, made by rule."""

import json
from collections.abc import Sequence
from pathlib import Path

from hsplit_flower.reports.client_records import EvaluatedClient, LeftOut, TrainedClient
from hsplit_flower.reports.metrics import (
    AnyLine,
    ClientEvaluationLine,
    ServerEvaluationLine,
    TrainingLine,
)
from hsplit_flower.reports.plan import PlannedClient, PlanRecord
from hsplit_flower.reports.run import CONFIG_FILE, METRICS_FILE, PLAN_FILE, VOID_FILE, Run

CLINICS = ("clinic-porto", "clinic-turku", "st-mary", "university-hospital", "praxis-3")
KINDS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj")


def run_of(
    name: str = "night",
    *,
    clients: Sequence[str] = CLINICS,
    num_rounds: int = 4,
    num_blocks: int = 6,
    left_out: Sequence[str] = (),
    evaluates: bool = True,
    is_simulated: bool = True,
    strategy: str = "hsplit-lora",
    resume: str = "",
) -> Run:
    """A run in which all is well but for those that are left out."""
    lines: list[AnyLine] = [server_evaluation(0)]
    for number in range(1, num_rounds + 1):
        lines.append(training(number, clients, num_blocks, left_out, is_simulated=is_simulated))
        lines.append(server_evaluation(number))
        if evaluates:
            lines.append(client_evaluation(number, clients))
    return Run(
        name=name,
        config={
            "strategy": strategy,
            "num-server-rounds": num_rounds,
            "resume": resume,
            "model": {"name": "llama-tiny"},
            "training": {"learning-rate": 8e-3, "batch-size": 16},
        },
        lines=tuple(lines),
        plan=plan_of(clients, num_rounds, num_blocks),
    )


def training(
    server_round: int,
    clients: Sequence[str],
    num_blocks: int,
    left_out: Sequence[str] = (),
    *,
    is_simulated: bool = True,
) -> TrainingLine:
    """A round that counts; the plan is made anew in the first two."""
    absent = LeftOut(
        kind="memory",
        reason="its smallest part needs 92.4 MB, it has 80 MB",
        budget_bytes=80e6,
        needed_bytes=92.4e6,
    )
    return TrainingLine(
        server_round=server_round,
        completed=True,
        seconds=40.0 + server_round,
        simulated_seconds=3.25 if is_simulated else 0.0,
        replanned=server_round <= 2,
        planning_reason="the first round" if server_round == 1 else "importance drifted by 0.3",
        drift=0.3,
        importance=importance_of(num_blocks),
        clients={
            client: trained(position, server_round, num_blocks, is_simulated=is_simulated)
            for position, client in enumerate(clients)
        },
        left_out=dict.fromkeys(left_out, absent),
    )


def void_run(name: str = "storm") -> Run:
    """A run of which no round was completed: nobody finished."""
    lost = TrainedClient(cut=1, dropped="the worker is gone: connection refused")
    return Run(
        name=name,
        config={"strategy": "hsplit-lora", "num-server-rounds": 3, "model": {"name": "llama-tiny"}},
        lines=tuple(
            TrainingLine(
                server_round=number,
                completed=False,
                seconds=2.0,
                clients=dict.fromkeys(CLINICS[:2], lost),
                left_out={CLINICS[2]: LeftOut(kind="silent", reason="no answer within 30 s")},
            )
            for number in (1, 2, 3)
        ),
    )


def trained(
    position: int, server_round: int, num_blocks: int, *, is_simulated: bool = True
) -> TrainedClient:
    """A client's part of a round."""
    cut = 1 + position % (num_blocks - 1)
    return TrainedClient(
        cut=cut,
        sum_of_ranks=64 * (cut + (server_round > 1)),
        block_ranks=tuple(8 for _ in range(num_blocks)),
        predicted_bytes=1e8 * cut,
        budget_bytes=1.2e8 * cut,
        peak_bytes=0.9e8 * cut,
        loss=2.0 / server_round + 0.1 * position,
        num_examples=1000 + position,
        counted_examples=1000 + position,
        num_steps=10,
        num_tokens=8000,
        worker_up_bytes=12_000_000,
        worker_down_bytes=11_000_000,
        flower_up_bytes=1_000_000,
        flower_down_bytes=2_000_000,
        setup_seconds=1.0,
        computing_seconds=8.0,
        worker_seconds=6.0,
        link_seconds=2.0,
        others_seconds=23.0 + server_round,
        simulated_compute_seconds=0.0625 if is_simulated else None,
        simulated_link_seconds=3.0 if is_simulated else None,
        simulated_worker_seconds=0.0625 if is_simulated else None,
        simulated_waiting_seconds=0.125 if is_simulated else None,
    )


def server_evaluation(server_round: int) -> ServerEvaluationLine:
    """Perplexity 48 before training, and halved by each round."""
    perplexity = 48.0 / 2**server_round
    return ServerEvaluationLine(server_round=server_round, loss=1.0, perplexity=perplexity)


def client_evaluation(server_round: int, clients: Sequence[str]) -> ClientEvaluationLine:
    """Each client's perplexity on its own examples."""
    return ClientEvaluationLine(
        server_round=server_round,
        perplexity=50.0 / 2**server_round,
        loss=1.0,
        seconds=7.0,
        clients={
            client: EvaluatedClient(cut=1, loss=1.0, perplexity=(50.0 + i) / 2**server_round)
            for i, client in enumerate(clients)
        },
    )


def importance_of(num_blocks: int) -> dict[str, float]:
    """By weight; the last block has most of it."""
    return {
        f"model.layers.{block}.{kind}": (1.0 + block) * (1 + place)
        for block in range(num_blocks)
        for place, kind in enumerate(KINDS)
    }


def plan_of(clients: Sequence[str], server_round: int, num_blocks: int) -> PlanRecord:
    """The plan of the last round."""
    return PlanRecord(
        server_round=server_round,
        planning_reason="importance drifted by 0.3",
        clients={
            client: PlannedClient(
                node=10**18 + position,
                cut=1 + position % (num_blocks - 1),
                binds="memory",
                why="one block more needs 187 MB, it has 167 MB",
                ranks=dict.fromkeys(importance_of(num_blocks), 8),
                budget_bytes=1.67e8,
            )
            for position, client in enumerate(clients)
        },
    )


def write_run(run: Run, parent: Path) -> Path:
    """The folder that such a run leaves."""
    folder = parent / run.name
    folder.mkdir(parents=True)
    completed = any(line.completed for line in run.training)
    (folder / (METRICS_FILE if completed else VOID_FILE)).write_text(
        "".join(json.dumps(line.to_dict()) + "\n" for line in run.lines), encoding="utf-8"
    )
    (folder / CONFIG_FILE).write_text(json.dumps(run.config), encoding="utf-8")
    if run.plan is not None:
        (folder / PLAN_FILE).write_text(json.dumps(run.plan.to_dict()), encoding="utf-8")
    return folder
