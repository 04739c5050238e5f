"""Rounds of SplitLoRA with real clients and worker: one cut, one rank, the mean of factors."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from flwr.app import Message, MessageType

from hsplit_flower.adapters import LowRank, from_state_dict
from hsplit_flower.errors import ConfigError
from hsplit_flower.server import RoundReport, ServerEvaluation
from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.settings import Planning
from hsplit_flower.strategies import SplitLoRA
from hsplit_flower.types import Labels, Scaling, Span, Start
from hsplit_flower.wire.factors import SessionResult
from tests.strategies.clients import (
    NODES,
    NUM_STEPS,
    WatchedWorker,
    batches,
    client_app,
    held_out,
    node_configs,
    trained_below,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.one_adapter import one_after_the_other
from tests.strategies.tiny import MAX_RANK, strategy_of, training
from tests.tolerances import distance

# A mean of three is rounded a few times in float32.
LAW = 3e-7


@dataclass
class Seen:
    """One round: who was asked in which order, and what each side of the cut has learnt."""

    report: RoundReport
    order: list[int]
    given: dict[int, dict[str, LowRank]]
    below: dict[int, dict[str, LowRank]]
    above: dict[int, SessionResult]
    after: dict[str, LowRank]


@dataclass
class Run:
    """Two rounds, one after the other."""

    strategy: SplitStrategy
    rounds: list[Seen] = field(default_factory=list)

    @property
    def cut(self) -> int:
        return next(iter(self.rounds[0].report.clients.values())).plan.cut

    def names(self, *, below: bool) -> list[str]:
        architecture = self.strategy.architecture
        start, stop = (0, self.cut) if below else (self.cut, architecture.num_blocks)
        return [w.name for w in architecture.weights_in(Span(start=start, stop=stop))]


@pytest.fixture(scope="module")
def run(model: str, running: WatchedWorker) -> Iterator[Run]:
    watched = WatchedWorker(running.worker)
    reports: list[RoundReport] = []
    strategy = strategy_of(
        model,
        method=SplitLoRA,
        planning=Planning(max_rank=MAX_RANK),
        worker=watched,
        observer=reports.append,
    )
    seen = Run(strategy=strategy)

    def observe(report: RoundReport) -> None:
        told = [m for m in grid.sent if _is_of(m, report.server_round)]
        seen.rounds.append(
            Seen(
                report=report,
                order=[m.metadata.dst_node_id for m in told],
                given={m.metadata.dst_node_id: _adapter_in(m) for m in told},
                below=trained_below(grid.received),
                above=dict(watched.results),
                after=dict(strategy.adapter.updates),
            )
        )

    strategy.observer = observe
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=2)
    yield seen
    assert not watched.open_tokens


def _is_of(message: Message, server_round: int) -> bool:
    return (
        message.metadata.message_type == MessageType.TRAIN
        and message.content.config_records["config"]["server-round"] == server_round
    )


def _adapter_in(message: Message) -> dict[str, LowRank]:
    return from_state_dict(message.content.array_records["arrays"].to_torch_state_dict())


def test_all_clients_finish_with_one_cut_and_one_rank(run: Run) -> None:
    names = {weight.name for weight in run.strategy.architecture.weights}
    for seen in run.rounds:
        assert seen.report.completed
        parts = [client.plan for client in seen.report.clients.values()]
        assert seen.report.clients.keys() == set(NODES)
        assert not any(client.dropped for client in seen.report.clients.values())
        assert {part.cut for part in parts} == {run.cut}
        assert len({rank for part in parts for rank in part.ranks.values()}) == 1
        assert all(part.ranks.keys() == names for part in parts)
    budgets = {client.budget_bytes for client in run.rounds[0].report.clients.values()}
    assert len(budgets) == len(NODES), "although their memories differ"


def test_below_the_cut_the_adapter_is_the_mean_of_what_clients_sent(run: Run) -> None:
    """Of ``B`` and of ``A`` apart, in float64; everybody counts the same."""
    for seen in run.rounds:
        for name in run.names(below=True):
            for factor in ("b", "a"):
                sent = [getattr(own[name], factor).double() for own in seen.below.values()]
                wanted = torch.stack(sent).mean(0)
                got = getattr(seen.after[name], factor).double()
                torch.testing.assert_close(got, wanted, rtol=LAW, atol=LAW)
                assert not torch.equal(sent[0], sent[1]), "they have trained on different examples"
    assert all(run.rounds[1].after[name].b.norm() > 0.01 for name in run.names(below=True))


def test_above_the_cut_all_sessions_have_one_pair(run: Run) -> None:
    for seen in run.rounds:
        assert seen.above.keys() == set(NODES)
        for name in run.names(below=False):
            pairs = [result.updates[name] for result in seen.above.values()]
            for pair in pairs:
                assert torch.equal(pair.b, pairs[0].b)
                assert torch.equal(pair.a, pairs[0].a)
            assert torch.equal(seen.after[name].b, pairs[0].b)
            assert torch.equal(seen.after[name].a, pairs[0].a)
            assert pairs[0].b.norm() > 0.01
        assert [result.num_steps for result in seen.above.values()] == [NUM_STEPS] * len(NODES)


def test_the_second_round_begins_with_the_pair_of_the_first(run: Run) -> None:
    first, second = run.rounds
    for given in second.given.values():
        assert set(given) == set(run.names(below=True))
        for name, pair in given.items():
            assert torch.equal(pair.b, first.after[name].b)
            assert torch.equal(pair.a, first.after[name].a)


def test_the_second_round_is_that_of_the_whole_model(run: Run) -> None:
    """The first step's loss is that of the pair; who comes later finds what others have learnt."""
    first, second = run.rounds
    (rank,) = {update.rank for update in first.after.values()}
    wanted = one_after_the_other(
        "llama",
        first.after,
        [batches(NODES.index(node), 2) for node in second.order],
        cut=run.cut,
        rank=rank,
        learning_rate=training().learning_rate,
    )
    for node, trained in zip(second.order, wanted, strict=True):
        targets = [
            int((batch["labels"][:, 1:] != -100).sum()) for batch in batches(NODES.index(node), 2)
        ]
        loss_sum = sum(loss * n for loss, n in zip(trained.losses, targets, strict=True))
        loss = second.report.clients[node].loss
        assert loss.num_tokens == sum(targets)
        assert loss.loss_sum == pytest.approx(loss_sum, rel=1e-5)
        _assert_ends_like(second.below[node], trained.factors, Scaling().of(rank))
    at_last = {name: second.after[name] for name in run.names(below=False)}
    _assert_ends_like(at_last, wanted[-1].factors, Scaling().of(rank))


def _assert_ends_like(
    updates: dict[str, LowRank], factors: dict[str, torch.Tensor], scale: float
) -> None:
    # AdamW makes a step of a gradient that is next to nothing, of which rounding makes another: an
    # entry may be off by 1e-3 then, a whole factor is not.
    assert updates
    for name, update in updates.items():
        assert distance(update.b, scale * factors[f"{name}.b"]) < 1e-3, name
        assert distance(update.a, factors[f"{name}.a"]) < 1e-3, name


def test_what_one_adapter_for_all_cannot_do_is_refused_when_the_strategy_is_made(
    model: str,
) -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)training\.labels is 'client'.*micro-batch-size is 2"
    ):
        strategy_of(
            model, method=SplitLoRA, training=training(labels=Labels.CLIENT, micro_batch_size=2)
        )
    with pytest.raises(ConfigError, match=r"training\.start is 'restart'.*leave it out"):
        strategy_of(model, method=SplitLoRA, training=training(start=Start.RESTART))


def test_split_evaluation_equals_that_of_the_whole_model(model: str, worker: WatchedWorker) -> None:
    examples = [batch for partition in range(len(NODES)) for batch in held_out(partition)]
    strategy = strategy_of(
        model,
        method=SplitLoRA,
        planning=Planning(max_rank=MAX_RANK),
        worker=worker,
        fraction_evaluate=1.0,
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        result = strategy.start(
            grid,
            num_rounds=2,
            evaluate_fn=ServerEvaluation(model, lambda: examples, device="cpu"),
        )
    losses = [result.evaluate_metrics_clientapp[number]["loss"] for number in (1, 2)]
    whole = [result.evaluate_metrics_serverapp[number]["loss"] for number in (0, 1, 2)]
    assert losses == pytest.approx(whole[1:], rel=1e-5)
    # How far few steps in the order of arrival get is chance; that they get anywhere is not.
    assert max(abs(loss - whole[0]) for loss in whole[1:]) > 1e-4
