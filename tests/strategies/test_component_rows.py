"""HSplitLoRA without one of its parts, with real clients and worker."""

from typing import Any

import pytest
import torch

from hsplit_flower.adapters import LowRank, from_state_dict
from hsplit_flower.server import RoundReport
from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.settings import Planning
from hsplit_flower.strategies import HSplitLoRAOneCut, HSplitLoRAPadded, HSplitLoRAUniform
from tests.reference import methods as reference
from tests.reference.aggregation import dense
from tests.strategies.clients import (
    NODES,
    NUM_EXAMPLES,
    WatchedWorker,
    client_app,
    node_configs,
    trained_below,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import MAX_RANK, strategy_of

PLANNING = Planning(max_rank=MAX_RANK, worker_session_rank=3)


class Rounds:
    """Two rounds: reports, what each client trained of both halves, and what was made of it."""

    def __init__(
        self, model: str, worker: WatchedWorker, method: type[SplitStrategy], **settings: Any
    ) -> None:
        self.reports: list[RoundReport] = []
        self.trained: list[dict[int, dict[str, LowRank]]] = []
        self.after: list[dict[str, LowRank]] = []
        # What is averaged is tested, not who is believed.
        settings["clip_above"] = 0.0
        strategy = strategy_of(model, method=method, worker=worker, planning=PLANNING, **settings)

        def observe(report: RoundReport) -> None:
            below = trained_below(grid.received)
            self.reports.append(report)
            self.trained.append(
                {node: {**below[node], **worker.results[node].updates} for node in NODES}
            )
            self.after.append(dict(strategy.adapter.updates))

        strategy.observer = observe
        with LocalGrid(client_app(), node_configs()) as grid:
            strategy.start(grid, num_rounds=2)
        self.given = {
            message.metadata.dst_node_id: from_state_dict(
                message.content.array_records["arrays"].to_torch_state_dict()
            )
            for message in grid.sent[-len(NODES) :]
        }

    def parts_of(self, at: int, name: str) -> list[reference.Trained]:
        """What the clients that adapt a weight trained of it."""
        return [
            reference.Trained.of(NUM_EXAMPLES[partition], self.trained[at][node][name])
            for partition, node in enumerate(NODES)
            if name in self.trained[at][node]
        ]


def test_without_naa_the_pair_is_the_mean_of_padded_factors(
    model: str, worker: WatchedWorker
) -> None:
    rounds = Rounds(model, worker, HSplitLoRAPadded)
    for at, after in enumerate(rounds.after):
        assert rounds.reports[at].completed
        for name, got in after.items():
            clients = rounds.parts_of(at, name)
            if clients:
                b, a = reference.padded(clients)
                torch.testing.assert_close(got.b.double(), b, rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(got.a.double(), a, rtol=1e-5, atol=1e-6)
    unequal = {
        len({part.a.shape[0] for part in rounds.parts_of(1, name)}) for name in rounds.after[1]
    }
    assert max(unequal) > 1, "some weight has other ranks on other clients"
    for node, given in rounds.given.items():
        for name, pair in given.items():
            assert pair.rank <= rounds.reports[1].clients[node].plan.ranks.get(name, 0)


def test_without_importance_every_weight_of_a_side_has_the_same_rank(
    model: str, worker: WatchedWorker
) -> None:
    rounds = Rounds(model, worker, HSplitLoRAUniform)
    for report in rounds.reports:
        for client in report.clients.values():
            plan = client.plan
            below = {r for n, r in plan.ranks.items() if int(n.split(".")[2]) < plan.cut}
            above = {r for n, r in plan.ranks.items() if int(n.split(".")[2]) >= plan.cut}
            assert len(below) == len(above) == 1
    assert_is_exact(rounds)


def test_without_armsc_all_have_one_cut_and_one_rank(model: str, worker: WatchedWorker) -> None:
    rounds = Rounds(model, worker, HSplitLoRAOneCut)
    for report in rounds.reports:
        plans = [client.plan for client in report.clients.values()]
        assert len({plan.cut for plan in plans}) == 1
        assert len({rank for plan in plans for rank in plan.ranks.values()}) == 1
    assert_is_exact(rounds)


def assert_is_exact(rounds: Rounds) -> None:
    """The first round's clients started from nothing: their weighted products are the adapter."""
    total = sum(NUM_EXAMPLES.values())
    for name, got in rounds.after[0].items():
        wanted = sum(
            (c.num_examples / total * c.product for c in rounds.parts_of(0, name)),
            torch.zeros(got.out_features, got.in_features, dtype=torch.float64),
        )
        # What is sent is rounded to float16.
        torch.testing.assert_close(dense(got), wanted, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("method", [HSplitLoRAOneCut, HSplitLoRAPadded, HSplitLoRAUniform])
def test_each_is_a_row_of_its_own(method: type[SplitStrategy]) -> None:
    assert method.method.title.startswith("HSplitLoRA without ")
