"""What is said of a round: a line for the log, plain values for a file."""

import math
from pathlib import Path

from hsplit_flower.metrics import TokenLoss
from hsplit_flower.names import ClientNames
from hsplit_flower.reports import RunFolder, read_run
from hsplit_flower.reports.client_records import LeftOut, TrainedClient
from hsplit_flower.server import ClientReport, EvaluationReport, RoundReport
from hsplit_flower.simulation.clock import ClientClock, RoundClock
from hsplit_flower.transport.traffic import Traffic
from hsplit_flower.types import ClientPlan, MemoryParts, Span

PLAN = ClientPlan(
    span=Span(start=0, stop=2),
    ranks={"a": 3, "b": 0, "c": 5},
    memory=MemoryParts(weights_bytes=2e6),
    binds="memory",
    why="it is full",
)
FINISHED = ClientReport(
    plan=PLAN,
    num_examples=7,
    loss=TokenLoss(loss_sum=6.0, num_tokens=4),
    first_loss=TokenLoss(loss_sum=4.0, num_tokens=2),
    last_loss=TokenLoss(loss_sum=2.0, num_tokens=2),
    num_steps=2,
    num_batch_tokens=37,
    setup_seconds=0.5,
    seconds=1.25,
    others_seconds=2.0,
    traffic=Traffic(up_bytes=100, down_bytes=50, worker_seconds=0.375, link_seconds=0.125),
    worker="127.0.0.1:7",
    flower_up_bytes=30,
    flower_down_bytes=20,
    budget_bytes=3e6,
    peak_bytes=1.5e6,
)
CLOCK = RoundClock(
    seconds=6.0,
    clients={
        13816022929839679101: ClientClock(
            compute_seconds=3.0, link_seconds=1.0, worker_seconds=0.5, waiting_seconds=1.5
        )
    },
)
DROPPED = ClientReport(plan=ClientPlan(span=Span(start=0, stop=1), ranks={}), dropped="it slept")


NODES = (13816022929839679101, 7, 5)
NAMES = ClientNames(by_client={NODES[0]: "clinic-a", NODES[1]: "clinic-b", NODES[2]: "clinic-c"})
LEFT_OUT = LeftOut(kind="memory", reason="it has 1 MB", budget_bytes=1e6, needed_bytes=2e6)
REPORT = RoundReport(
    server_round=4,
    clients={NODES[0]: FINISHED, NODES[1]: DROPPED},
    names=NAMES,
    left_out={NODES[2]: LEFT_OUT},
    replanned=False,
    planning_reason="no client changed",
    drift=0.05,
    seconds=9.5,
    completed=True,
    importance={"a": 0.5},
    blocks={"a": 0, "b": 0, "c": 2},
    largest_rank=12,
    moved=(NODES[1],),
    simulated=CLOCK,
)


RECORDED = TrainedClient(
    cut=2,
    binds="memory",
    block_ranks=(3, 0, 5),
    sum_of_ranks=8,
    least_rank=3,
    largest_rank=5,
    predicted_bytes=2e6,
    worker="127.0.0.1:7",
    worker_up_bytes=100,
    worker_down_bytes=50,
    flower_up_bytes=30,
    flower_down_bytes=20,
    setup_seconds=0.5,
    seconds=1.25,
    computing_seconds=0.75,
    worker_seconds=0.375,
    link_seconds=0.125,
    others_seconds=2.0,
    num_steps=2,
    num_tokens=4,
    num_batch_tokens=37,
    peak_bytes=1.5e6,
    budget_bytes=3e6,
    loss=1.5,
    loss_before=2.0,
    loss_after=1.0,
    num_examples=7,
    counted_examples=7,
    times_the_median=1.0,
    simulated_compute_seconds=3.0,
    simulated_link_seconds=1.0,
    simulated_worker_seconds=0.5,
    simulated_waiting_seconds=1.5,
)


UNKNOWN = {
    *("worker-up-bytes", "worker-down-bytes", "flower-up-bytes"),
    *("setup-seconds", "computing-seconds", "worker-seconds", "link-seconds", "others-seconds"),
    *("seconds", "num-steps", "num-tokens", "num-batch-tokens"),
}
"""Of a client that was dropped, where its worker cannot say what it sent."""


def test_a_record_has_what_was_measured_of_everybody_by_name(tmp_path: Path) -> None:
    RunFolder(tmp_path).add_metrics(REPORT.record())
    text = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert not [node for node in NODES[:1] if str(node) in text]
    (line,) = read_run(tmp_path).training
    assert line == REPORT.record()
    assert (line.server_round, line.completed, line.simulated_seconds) == (4, True, 6.0)
    assert (line.moved, line.left_out) == (("clinic-b",), {"clinic-c": LEFT_OUT})
    assert line.importance == {"a": 0.5}
    finished, dropped = line.clients["clinic-a"], line.clients["clinic-b"]
    assert finished == RECORDED
    assert finished.counts and not dropped.counts
    assert (dropped.loss, dropped.dropped, dropped.simulated_link_seconds) == (
        None,
        "it slept",
        None,
    )


def test_what_nobody_knows_is_no_zero() -> None:
    """A worker that is gone has taken its count with it; an answer may have come too late."""
    line = REPORT.record().to_dict()["clients"]["clinic-b"]
    assert {key for key in UNKNOWN if line[key] is None} == UNKNOWN
    assert line["flower-down-bytes"] == 0
    evaluated = EvaluationReport(server_round=4, clients={7: DROPPED}, seconds=1.0).record()
    line = evaluated.to_dict()["clients"]["7"]
    assert {key for key in UNKNOWN if key in line and line[key] is None} == UNKNOWN - {"seconds"}


def test_the_ids_stand_in_the_plan_with_the_reasons(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_plan(REPORT.plan())
    plan = read_run(tmp_path).plan
    assert plan is not None and plan.server_round == 4
    part = plan.clients["clinic-a"]
    assert (part.node, part.cut, part.binds, part.why) == (NODES[0], 2, "memory", "it is full")
    assert (part.ranks, part.predicted_bytes) == (PLAN.ranks, 2e6)
    left_out = plan.left_out["clinic-c"]
    assert (left_out.node, left_out.kind, left_out.needed_bytes) == (NODES[2], "memory", 2e6)


def test_an_evaluation_has_what_each_client_found() -> None:
    loss = TokenLoss(loss_sum=6.0, num_tokens=4)
    record = EvaluationReport(
        server_round=4, clients={NODES[0]: FINISHED}, names=NAMES, seconds=1.0, loss=loss
    ).record()
    found = record.clients["clinic-a"]
    assert found.perplexity == record.perplexity == math.exp(1.5)
    assert (found.num_tokens, found.peak_bytes, found.worker_up_bytes) == (4, 1.5e6, 100)
    nobody = EvaluationReport(server_round=4, clients={}, seconds=1.0).record()
    assert (nobody.loss, nobody.perplexity) == (None, None)
