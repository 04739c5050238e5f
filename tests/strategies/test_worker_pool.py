"""The strategy with a pool of workers on Ray: spread, watched, moved when a worker dies."""

import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from flwr.app import Context, Message, MessageType
from ray.util.placement_group import placement_group, remove_placement_group
from torch import Tensor

from hsplit_flower.cli.make_certificates import made_certificates
from hsplit_flower.client.app import split_train
from hsplit_flower.errors import SplitError, WorkerUnavailableError
from hsplit_flower.server import RoundReport
from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.settings import Model, Worker
from hsplit_flower.worker.pool import WorkerPool
from hsplit_flower.worker.pool.cluster import connected
from tests.ray_starts import RAY_STARTS
from tests.reference.aggregation import dense, relative_error
from tests.strategies.clients import NODES, Batches, address_in, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of

NUM_ROUNDS, TRAINING_DEATH, EVALUATION_DEATH = 3, 2, 3
# The one whose worker dies while it is served, after all others.
LAST = 1

# Ray's own sockets and processes end when they please.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
    pytest.mark.timeout(300),
]


def on_ray(**settings: Any) -> Worker:
    return Worker(placement="ray", num_threads=1, **settings)


@pytest.fixture(scope="module")
def own_ray(model: str) -> Iterator[None]:
    """A Ray that a pool starts for itself, and which all pools of this file share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for attempt in range(RAY_STARTS):
            try:
                cluster = connected()
                cluster.__enter__()
                break
            except WorkerUnavailableError:
                if attempt == RAY_STARTS - 1:
                    raise
        yield
        cluster.__exit__(None, None, None)
    assert not ray.is_initialized()
    assert not [process for process in _of_ray() if process.is_running()]
    # What Ray leaves unclosed is collected here, where its warnings are expected.
    gc.collect()


def _of_ray() -> list[psutil.Process]:
    ours = psutil.Process().children(recursive=True)
    _, alive = psutil.wait_procs([p for p in ours if "ray" in p.name()], timeout=20.0)
    return list(alive)


@dataclass
class Story:
    """A run, and what is told of it."""

    updates: list[dict[str, Tensor]] = field(default_factory=list)
    reports: list[RoundReport] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    trained: Counter[tuple[int, int]] = field(default_factory=Counter)
    addresses: dict[tuple[int, str], list[tuple[int, str]]] = field(default_factory=dict)
    processes: list[psutil.Process] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def run(strategy: SplitStrategy, *, before_last: Callable[[Message], None] | None = None) -> Story:
    """Three rounds, of which the last client's second step, or evaluation, may be disturbed."""
    story = Story()

    def train(msg: Message, context: Context, some: Batches) -> Message:
        node, server_round = context.node_id, _round_of(msg)
        story.trained[server_round, node] += 1
        first, *others = some

        def disturbed() -> Iterator[Any]:
            yield first
            if node == NODES[LAST] and server_round == TRAINING_DEATH:
                _once(msg, MessageType.TRAIN)
            yield from others

        return split_train(msg, context, disturbed())

    def _once(msg: Message, kind: str) -> None:
        if before_last is not None and kind not in disturbances:
            disturbances.add(kind)
            before_last(msg)

    disturbances: set[str] = set()
    app = client_app(faults=dict.fromkeys(range(len(NODES)), train))
    healthy = app._registered_funcs["evaluate.default"]

    def evaluate(msg: Message, context: Context) -> Message:
        if context.node_id == NODES[LAST] and _round_of(msg) == EVALUATION_DEATH:
            _once(msg, MessageType.EVALUATE)
        return healthy(msg, context)

    app._registered_funcs["evaluate.default"] = evaluate

    def note(message: Message) -> None:
        if message.metadata.message_type == MessageType.QUERY:
            return
        key = _round_of(message), str(message.metadata.message_type)
        where = address_in(message)
        story.addresses.setdefault(key, []).append((message.metadata.dst_node_id, where))
        story.processes += [p for p in processes_of(strategy) if p not in story.processes]

    def observe(report: RoundReport) -> None:
        story.reports.append(report)
        story.updates.append({n: dense(u) for n, u in strategy.adapter.updates.items()})

    strategy.observer = observe
    with LocalGrid(app, node_configs(), before=note, last=[NODES[LAST]]) as grid:
        told = strategy.start(grid, num_rounds=NUM_ROUNDS).evaluate_metrics_clientapp
    story.losses = [float(told[number]["loss"]) for number in range(1, NUM_ROUNDS + 1)]
    return story


def _round_of(message: Message) -> int:
    return int(message.content.config_records["config"]["server-round"])


def processes_of(strategy: SplitStrategy) -> list[psutil.Process]:
    members = getattr(strategy._sessions.group, "_members", {}).values()
    return [psutil.Process(member.placement.process) for member in members]


def kill_the_worker_of(strategy: SplitStrategy, message: Message) -> None:
    """As a machine does that runs out of memory."""
    address = address_in(message)
    members = strategy._sessions.group._members.values()
    (member,) = [member for member in members if member.remote.address == address]
    os.kill(member.placement.process, signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(model: str) -> Story:
    """With one worker, in this process."""
    return run(strategy_of(model, fraction_evaluate=1.0))


@pytest.fixture(scope="module")
def story(model: str, own_ray: None) -> Story:
    """With two workers, of which one dies in the second round and one in the third evaluation."""
    strategy = strategy_of(
        model, fraction_evaluate=1.0, patience_seconds=2.0, worker=on_ray(num_workers=2)
    )
    return run(strategy, before_last=lambda message: kill_the_worker_of(strategy, message))


def test_sessions_are_spread_over_the_workers(story: Story) -> None:
    for kind in (MessageType.TRAIN, MessageType.EVALUATE):
        first_round = story.addresses[1, kind]
        assert sorted(Counter(address for _, address in first_round).values()) == [1, 2]
        assert {node for node, _ in first_round} == set(NODES)


def test_the_rounds_are_those_of_one_worker(story: Story, undisturbed: Story) -> None:
    """Those too in which a worker died: who was moved began anew, and lost nothing."""
    assert [report.completed for report in story.reports] == [True] * NUM_ROUNDS
    for report, wanted in zip(story.reports, undisturbed.reports, strict=True):
        assert report.clients.keys() == wanted.clients.keys() == set(NODES)
        assert not any(client.dropped for client in report.clients.values())
    for updates, wanted_updates in zip(story.updates, undisturbed.updates, strict=True):
        assert updates.keys() == wanted_updates.keys()
        for name, update in wanted_updates.items():
            if update.norm() > 0:
                assert relative_error(updates[name], update) < 1e-4
    assert story.losses == pytest.approx(undisturbed.losses, rel=1e-5)


def test_only_the_sessions_of_the_worker_that_died_begin_anew(story: Story) -> None:
    sent = story.addresses[TRAINING_DEATH, MessageType.TRAIN]
    first, again = sent[: len(NODES)], sent[len(NODES) :]
    died = dict(first)[NODES[LAST]]
    theirs = {node for node, address in first if address == died}
    assert {node for node, _ in again} == theirs
    assert set(story.reports[TRAINING_DEATH - 1].moved) == theirs
    assert all(address != died for _, address in again)
    for server_round, node in story.trained:
        is_again = server_round == TRAINING_DEATH and node in theirs
        assert story.trained[server_round, node] == (2 if is_again else 1)
    assert [report.moved for report in story.reports if report.moved] == [
        story.reports[TRAINING_DEATH - 1].moved
    ]


def test_a_dead_worker_runs_again_in_the_next_round(story: Story) -> None:
    before = {address for _, address in story.addresses[1, MessageType.TRAIN]}
    after = {address for _, address in story.addresses[EVALUATION_DEATH, MessageType.TRAIN]}
    assert len(before) == len(after) == 2
    assert len(before & after) == 1


def test_an_evaluation_is_moved_too(story: Story) -> None:
    sent = story.addresses[EVALUATION_DEATH, MessageType.EVALUATE]
    first, again = dict(sent[: len(NODES)]), dict(sent[len(NODES) :])
    assert NODES[LAST] in again
    assert all(first[node] == first[NODES[LAST]] != again[node] for node in again)


def test_no_worker_is_left_running(story: Story) -> None:
    assert len(story.processes) == 3, "two, and one that was started again"
    _, alive = psutil.wait_procs(story.processes, timeout=20.0)
    assert alive == []
    assert ray.is_initialized(), "a Ray that was there before stays"


@pytest.mark.long
def test_a_pool_over_tls_goes_on_with_who_is_left_and_ends_with_nobody(
    model: str, own_ray: None, flower_log: list[str], tmp_path: Path
) -> None:
    disturbed: set[int] = set()

    def train(msg: Message, context: Context, some: Batches) -> Message:
        if _round_of(msg) not in disturbed:
            disturbed.add(_round_of(msg))
            kill_the_worker_of(strategy, msg)
        return split_train(msg, context, some)

    reports: list[RoundReport] = []
    here = ray.util.get_node_ip_address()
    made_certificates(tmp_path, [here], (), num_days=1)
    files = {"ssl_certfile": "server.pem", "ssl_keyfile": "server.key", "ssl_ca_certfile": "ca.pem"}
    # On every interface, so on whatever node Ray likes, and told to clients as that node.
    anywhere = on_ray(
        host="0.0.0.0",
        num_workers=2,
        num_restarts=0,
        **{name: str(tmp_path / file) for name, file in files.items()},
    )
    strategy = strategy_of(model, worker=anywhere, observer=reports.append)
    with (
        LocalGrid(client_app(faults={0: train}), node_configs()) as grid,
        pytest.raises(WorkerUnavailableError, match="no worker of the pool lives"),
    ):
        strategy.start(grid, num_rounds=3)
    assert [report.completed for report in reports] == [True, False]
    assert NODES[0] in reports[0].moved and not reports[1].moved
    (listens,) = [line for line in flower_log if "The split worker listens on" in line]
    assert listens.count(f" {here}:") == 2
    dead = [line for line in flower_log if line.startswith("worker ") and "died" in line]
    assert {line.split()[1] for line in dead} == {"0", "1"}
    assert any("begin the round anew" in line for line in flower_log)
    assert any("lost their worker and cannot be moved" in line for line in flower_log)


def test_workers_that_fit_nowhere_say_what_was_asked_and_what_there_is(
    model: str, own_ray: None
) -> None:
    wanted = r"not schedulable.*0 GPUs and 1000 CPUs on this node, Ray has 0 GPUs and \d+ CPUs"
    with pytest.raises(WorkerUnavailableError, match=wanted):
        WorkerPool(Model(name=model), on_ray(num_workers=2, num_cpus=1000.0)).start()


def test_workers_that_others_leave_no_room_for_wait_and_then_give_up(
    model: str, own_ray: None
) -> None:
    held = placement_group([{"CPU": float(ray.cluster_resources()["CPU"])}])
    assert held.wait(60)
    asked = on_ray(num_workers=2, num_cpus=1.0, placing_timeout_seconds=1.0)
    try:
        with pytest.raises(
            WorkerUnavailableError, match=r"2 of 2 workers were not placed .*within 1 s;.*free are"
        ):
            WorkerPool(Model(name=model), asked).start()
    finally:
        remove_placement_group(held)


@pytest.mark.long
def test_what_a_worker_cannot_load_is_said_as_it_says_it(model: str, own_ray: None) -> None:
    with pytest.raises(SplitError, match="9"):
        WorkerPool(Model(name=model), on_ray(), lowest_cut=9).start()
