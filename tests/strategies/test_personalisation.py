"""Adapters of the clients' own after the last round, with real clients and worker."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message

from hsplit_flower.adapters import LowRank, export_adapter, import_adapter, starting_points
from hsplit_flower.client.app import personal_steps, split_train
from hsplit_flower.client.goes_on_top import OnTopOf
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.reports.metrics import PersonalisationLine
from hsplit_flower.server.checkpoint import write_state
from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.server.worker_sessions import WorkerSessions
from hsplit_flower.strategies import FedLoRA, HSplitLoRA, SplitLoRA
from hsplit_flower.types import Labels, Start, WorkerDescription
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, METRICS_KEY, Instructions
from tests.families import IGNORED
from tests.reference.unsplit import base_model, with_peft
from tests.reference.unsplit import train as peft_steps
from tests.strategies.clients import (
    NAMES,
    NODES,
    Batches,
    Train,
    WatchedWorker,
    batches,
    client_app,
    held_out,
    node_configs,
    partition_of,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of, training

STEPS = 2


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Personalised:
    """A run of one round, after which every client trains an adapter of its own."""

    def __init__(
        self,
        model: str,
        worker: WatchedWorker,
        *,
        steps: int = STEPS,
        train: Train = split_train,
        before: Callable[[Message], None] = lambda message: None,
        method: type[SplitStrategy] = HSplitLoRA,
        **recipe: Any,
    ) -> None:
        self.lines: list[PersonalisationLine] = []
        self.replies: list[Message] = []
        own = training(personalise_steps=steps, seed=3, **recipe)
        self.strategy = strategy_of(model, worker=worker, method=method, training=own)
        self.strategy.personalisation.observer = self.lines.append
        self.strategy.observer = lambda report: write_state(self.strategy.state, Path("before"))

        def kept(msg: Message, context: Context, some: Batches) -> Message:
            reply = train(msg, context, some)
            if personal_steps(msg):
                self.replies.append(reply)
            return reply

        with LocalGrid(client_app(train_part=kept), node_configs(), before=before) as grid:
            self.result = self.strategy.start(grid, num_rounds=1)
        self.sent = grid.sent
        write_state(self.strategy.state, Path("after"))

    def told(self, node: int) -> Instructions:
        """What a client was asked to train for itself."""
        every = [instructions(one) for one in self.sent if one.metadata.dst_node_id == node]
        (own,) = [one for one in every if one is not None and is_personal(one)]
        return own


def instructions(message: Message) -> Instructions | None:
    record = message.content.config_records.get(INSTRUCTIONS_KEY)
    return None if record is None else Instructions.from_config(record)


def is_personal(told: Instructions | None) -> bool:
    """Whether it is to train an adapter of its own."""
    return told is not None and bool(told.personal_steps) and told.session.train


def adapter_of(node: int) -> Path:
    return Path("personal-adapters") / NAMES[node]


def unsplit(run: Personalised, node: int) -> dict[str, LowRank]:
    """PEFT on the whole model, the global adapter in its weights, all above the cut frozen."""
    strategy, spec = run.strategy, run.told(node).session
    updates = strategy.adapter.updates
    points = starting_points(
        strategy.architecture.weights,
        updates,
        spec.ranks,
        start=spec.start,
        scaling=spec.scaling,
        seed=spec.seed,
    )
    factors = {
        name: (point.trainable_b, point.trainable_a)
        for name, point in points.items()
        if spec.ranks.get(name)
    }
    assert factors
    base = base_model("llama", {name: update.dense() for name, update in updates.items()})
    steps = peft_steps(
        with_peft(base, factors, spec.scaling),
        batches(NODES.index(node), run.told(node).server_round, steps=STEPS),
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        label_smoothing=spec.label_smoothing,
        max_norm=spec.max_gradient_norm,
    )
    after = steps[-1].factors
    return {
        name: LowRank(b=spec.scaling.of(b.shape[1]) * after[f"{name}.b"], a=after[f"{name}.a"])
        for name, (b, _) in factors.items()
    }


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"labels": Labels.CLIENT, "start": Start.RESTART, "weight_decay": 0.1},
        {"max_gradient_norm": 0.05, "label_smoothing": 0.1, "micro_batch_size": 2},
        {"method": SplitLoRA},
    ],
    ids=["plain", "labels-here", "clipped", "one-adapter"],
)
@pytest.mark.one_in(2)
def test_it_is_what_the_unsplit_model_trains_below_the_cut(
    model: str, worker: WatchedWorker, changed: dict[str, Any]
) -> None:
    run = Personalised(model, worker, **changed)
    blocks = {weight.name: weight.block for weight in run.strategy.architecture.weights}
    # The smallest device does not hold the head, which the labels need.
    nodes = NODES[1:] if changed.get("labels") is Labels.CLIENT else NODES
    assert set(run.lines[0].clients) == {NAMES[node] for node in nodes}
    for node in nodes:
        kept, wanted = import_adapter(adapter_of(node)), unsplit(run, node)
        assert kept.keys() == wanted.keys()
        assert {blocks[name] for name in kept} == set(range(run.told(node).session.cut))
        for name, update in wanted.items():
            torch.testing.assert_close(kept[name].dense(), update.dense(), rtol=1e-5, atol=1e-6)
            assert update.dense().abs().max() > 1e-4


def test_its_gain_is_told_by_client_and_is_that_of_the_unsplit_model(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    run = Personalised(model, worker)
    (line,) = run.lines
    assert line.server_round == 1 and set(line.clients) == set(NAMES.values())
    for partition, node in enumerate(NODES):
        client = line.clients[NAMES[node]]
        assert client.dropped is None and client.num_steps == STEPS
        updates = dict(run.strategy.adapter.updates)
        for told, added in (
            (client.loss_before, {}),
            (client.loss_after, import_adapter(adapter_of(node))),
        ):
            dense = {
                n: u.dense() + (added[n].dense() if n in added else 0) for n, u in updates.items()
            }
            wanted = loss_of(base_model("llama", dense), held_out(partition))
            assert told == pytest.approx(wanted, rel=1e-5)
        assert client.loss_after != client.loss_before
        assert any(NAMES[node] in said and "an adapter of its own" in said for said in flower_log)


def loss_of(model: torch.nn.Module, some: list[dict[str, torch.Tensor]]) -> float:
    """Mean over all labelled tokens."""
    sums, counts = 0.0, 0
    with torch.no_grad():
        for batch in some:
            count = int((batch["labels"][:, 1:] != IGNORED).sum())
            sums += model(**batch, use_cache=False).loss.item() * count
            counts += count
    return sums / counts


def test_nothing_of_the_run_is_another_and_nothing_of_it_is_sent(
    model: str, worker: WatchedWorker
) -> None:
    run = Personalised(model, worker)
    assert Path("before").read_bytes() == Path("after").read_bytes()
    without = Personalised(model, worker, steps=0)
    assert not without.lines and not without.replies
    assert run.result.arrays.keys() == without.result.arrays.keys()
    for key, array in run.result.arrays.items():
        assert array.data == without.result.arrays[key].data
    assert len(run.replies) == len(NODES)
    for reply in run.replies:
        assert list(reply.content) == [METRICS_KEY]


def test_a_client_that_fails_loses_nothing_of_the_run(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    def train(msg: Message, context: Context, some: Batches) -> Message:
        fails = personal_steps(msg) and partition_of(context) == 0
        return split_train(msg, context, unreadable() if fails else some)

    def unreadable() -> Iterator[Any]:
        raise DataError("its file is gone")
        yield

    run = Personalised(model, worker, train=train)
    (line,) = run.lines
    assert line.clients["clinic-0"].dropped == "DataError: its file is gone"
    assert line.clients["clinic-0"].perplexity_after is None
    assert line.clients["clinic-1"].perplexity_after is not None
    assert not adapter_of(NODES[0]).exists() and adapter_of(NODES[1]).exists()
    assert run.result.arrays and Path("before").read_bytes() == Path("after").read_bytes()
    assert any(
        "clinic-0: has no adapter of its own: DataError: its file is gone" in said
        for said in flower_log
    )


def test_what_another_run_has_written_to_the_folder_meanwhile_is_not_measured(
    model: str, worker: WatchedWorker
) -> None:
    def train(msg: Message, context: Context, some: Batches) -> Message:
        reply = split_train(msg, context, some)
        if personal_steps(msg) and partition_of(context) == 0:
            folder = adapter_of(NODES[0])
            kept, note = import_adapter(folder), OnTopOf.read(folder)
            assert note is not None and note.server_round == 1
            others = {name: one.scale(0.5) for name, one in kept.items()}
            of_another = OnTopOf.of(others, kept, server_round=1).notes()
            how = {"base_model": model, "is_transposed": False}
            export_adapter(kept, folder, **how, notes=of_another)
        return reply

    (line,) = Personalised(model, worker, train=train).lines
    dropped = line.clients["clinic-0"].dropped
    assert dropped is not None and "and the one of this run differs from that by" in dropped
    assert "another client or another run has written to that folder" in dropped
    assert line.clients["clinic-1"].dropped is None


def test_what_stops_all_of_it_costs_nothing_of_the_run(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    def breaks(message: Message) -> None:
        if is_personal(instructions(message)):
            raise RuntimeError("the link is down")

    run = Personalised(model, worker, before=breaks)
    assert run.result.arrays and not run.lines
    assert any("own adapters: the link is down" in said for said in flower_log)


def test_a_worker_with_few_sessions_serves_them_one_after_the_other(
    model: str, worker: WatchedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    open_all, describe = WorkerSessions.open_all, WorkerSessions.describe

    def few(sessions: WorkerSessions) -> WorkerDescription:
        # Enough for the round, which has to be before.
        most = 2 if Path("before").exists() else len(NODES)
        return replace(describe(sessions), max_sessions=most)

    def counted(sessions: WorkerSessions, specs: Any, loads: Any) -> Any:
        opened.append(len(specs))
        return open_all(sessions, specs, loads)

    monkeypatch.setattr(WorkerSessions, "describe", few)
    monkeypatch.setattr(WorkerSessions, "open_all", counted)
    run = Personalised(model, worker)
    assert opened == [3, *[2] * 3, *[1] * 3]
    clients = run.lines[0].clients
    assert all(clients[name].perplexity_after is not None for name in NAMES.values())


def test_who_has_the_whole_model_has_nothing_below_a_cut(model: str) -> None:
    with pytest.raises(ConfigError, match=r"personalise-steps is 2: .* leave it out"):
        FedLoRA(model, training(personalise_steps=2))
