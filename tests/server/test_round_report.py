"""What is said of a round: a line for the log, plain values for a file."""

import json
from dataclasses import replace

from hsplit_flower.aggregation import Proportion
from hsplit_flower.metrics import TokenLoss
from hsplit_flower.server import ClientReport, RoundReport
from hsplit_flower.simulation.clock import ClientClock, RoundClock
from hsplit_flower.types import ClientPlan, MemoryParts, Span

PLAN = ClientPlan(
    span=Span(start=0, stop=2),
    ranks={"a": 3, "b": 0, "c": 5},
    memory=MemoryParts(weights_bytes=2e6),
)
FINISHED = ClientReport(
    plan=PLAN,
    num_examples=7,
    loss=TokenLoss(loss_sum=6.0, num_tokens=4),
    num_steps=2,
    num_batch_tokens=37,
    seconds=1.25,
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


def test_a_line_for_who_finished_and_for_who_did_not() -> None:
    assert FINISHED.line() == (
        "cut 2, ranks 3-5 (sum 8): loss 1.5000, 2 steps in 1.2 s, 1.5 MB of 3 MB"
    )
    trust = replace(
        FINISHED,
        uncounted_examples=4,
        proportion=Proportion(
            where="h.3.c_attn", multiple=8.0, kept={"h.3.c_attn": 0.25, "x": 0.5}
        ),
    )
    assert trust.is_suspicious and not FINISHED.is_suspicious
    assert trust.line().removeprefix(FINISHED.line()) == (
        "; SHORTENED in 2 weights, to 0.25 of what they are and more: its change of h.3.c_attn is "
        "8 times the median; counts as 3 of the 7 examples it claims"
    )
    assert DROPPED.line() == "cut 1, no ranks: left out, it slept"


TRUSTED = {
    "counted-examples": 7,
    "longest-change": "",
    "times-the-median": 1.0,
    "num-shortened": 0,
    "least-kept": 1.0,
    "selected": True,
}


def test_plain_values() -> None:
    report = RoundReport(
        server_round=4,
        clients={13816022929839679101: FINISHED, 7: DROPPED},
        replanned=False,
        planning_reason="no client changed",
        drift=0.05,
        seconds=9.5,
        completed=True,
        largest_rank=12,
        away=(5,),
        moved=(7,),
        simulated=CLOCK,
    )
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    clients = values.pop("clients")
    assert values == {
        "server-round": 4,
        "replanned": False,
        "planning-reason": "no client changed",
        "drift": 0.05,
        "seconds": 9.5,
        "completed": True,
        "largest-rank": 12,
        "held-back-share": 0.0,
        "dropped-share": 0.0,
        "away": [5],
        "moved": [7],
        "simulated-seconds": 6.0,
    }
    assert clients["13816022929839679101"] == TRUSTED | {
        "cut": 2,
        "sum-of-ranks": 8,
        "num-examples": 7,
        "loss": 1.5,
        "num-steps": 2,
        "num-batch-tokens": 37,
        "seconds": 1.25,
        "predicted-bytes": 2e6,
        "peak-bytes": 1.5e6,
        "budget-bytes": 3e6,
        "dropped": None,
        "simulated-compute-seconds": 3.0,
        "simulated-link-seconds": 1.0,
        "simulated-worker-seconds": 0.5,
        "simulated-waiting-seconds": 1.5,
    }
    assert not [name for name in clients["7"] if name.startswith("simulated")]
    assert (clients["7"]["loss"], clients["7"]["dropped"]) == (None, "it slept")
