"""Sessions on two workers, of which one may stop at any moment; the workers are real."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from hsplit_flower.errors import (
    ConfigError,
    SplitError,
    WorkerRejectedError,
    WorkerUnavailableError,
)
from hsplit_flower.server.worker_sessions import WorkerSessions
from hsplit_flower.settings import Model, RunSettings, SessionSpec, Worker
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.transport.traffic import Traffic
from hsplit_flower.types import WorkerDescription
from hsplit_flower.wire.work_done import WorkDone
from hsplit_flower.worker.group import WorkerGroup, described_together
from hsplit_flower.worker.hosting import HostedWorker, host_worker
from tests.strategies.fixtures import OPERATOR_TOKEN

SPECS = {client: SessionSpec(client=client, cut=1, ranks={}) for client in range(4)}
LOADS = dict.fromkeys(SPECS, 1.0)


def settings_of(model: str) -> RunSettings:
    return RunSettings(model=Model(name=model))


class Pair:
    """Workers in this process that are reached over the loopback and are not started again."""

    def __init__(self, model: str) -> None:
        own = Worker(operator_token=OPERATOR_TOKEN)
        self.hosted: dict[int, HostedWorker] = {
            number: host_worker(Model(name=model), own) for number in range(2)
        }
        impatient = ChannelSettings(step_timeout_seconds=5.0, num_tries=1)
        self.workers = {
            number: RemoteWorker(worker.address, OPERATOR_TOKEN, impatient)
            for number, worker in self.hosted.items()
        }

        self._descriptions = {n: worker.describe() for n, worker in self.workers.items()}

    def describe(self) -> WorkerDescription:
        """As a pool does: from what each has said when it was started."""
        if not self.workers:
            raise WorkerUnavailableError("no worker of the pool lives")
        return described_together((n, self._descriptions[n]) for n in self.workers)

    def find_dead(self) -> list[str]:
        gone = [number for number in self.workers if number not in self.hosted]
        for number in gone:
            self.workers.pop(number).stop()
        return [f"worker {number} was stopped" for number in gone]

    def restart_dead(self) -> list[str]:
        return self.find_dead()

    def kill(self, number: int) -> None:
        self.hosted.pop(number).stop()

    def stop(self) -> None:
        for number in list(self.hosted):
            self.kill(number)
        self.find_dead()


@pytest.fixture
def pair(model: str) -> Iterator[Pair]:
    both = Pair(model)
    yield both
    both.stop()


@pytest.fixture
def sessions(model: str, pair: Pair) -> WorkerSessions:
    some = WorkerSessions(settings_of(model))
    group: WorkerGroup = pair
    some._group = group
    return some


def test_sessions_lie_on_both_and_are_asked_where_they_lie(
    sessions: WorkerSessions, pair: Pair
) -> None:
    sessions.load_update({})
    tickets = sessions.open_all(SPECS, LOADS)
    assert Counter(ticket.worker for ticket in tickets.values()) == {0: 2, 1: 2}
    for client, ticket in tickets.items():
        assert ticket.address == pair.hosted[ticket.worker].address
        assert client in pair.hosted[ticket.worker].steps()
        assert sessions.collect(client).num_steps == 0
    assert sessions.work_done().num_steps == dict.fromkeys(SPECS, 0)
    assert sessions.traffic_of([0, 2, 7]) == {0: Traffic(), 2: Traffic()}
    assert sessions.lost(list(SPECS)) == []
    sessions.close_all()
    assert not any(worker.steps() for worker in pair.hosted.values())


def _load(sessions: WorkerSessions) -> None:
    sessions.load_update({})


def _open(sessions: WorkerSessions) -> None:
    tickets = sessions.open_all(SPECS, LOADS)
    assert {ticket.worker for ticket in tickets.values()} == {1}


@pytest.mark.parametrize("call", [_load, _open], ids=["load_update", "open_all"])
def test_a_worker_that_is_gone_is_noticed_and_left_out(
    sessions: WorkerSessions,
    pair: Pair,
    flower_log: list[str],
    call: Callable[[WorkerSessions], None],
) -> None:
    pair.kill(0)
    call(sessions)
    assert list(pair.workers) == [1]
    assert "worker 0 was stopped" in flower_log
    sessions.close_all()


def test_sessions_that_were_lost_are_named_and_opened_on_the_other(
    sessions: WorkerSessions, pair: Pair
) -> None:
    tickets = sessions.open_all(SPECS, LOADS)
    pair.kill(0)
    lost = sessions.lost(list(SPECS))
    assert lost == [client for client, ticket in tickets.items() if ticket.worker == 0]
    with pytest.raises(WorkerUnavailableError, match="went with the worker"):
        sessions.collect(lost[0])
    assert sessions.traffic_of(list(SPECS)).keys() == SPECS.keys() - set(lost), (
        "nobody knows theirs"
    )
    again = sessions.open_all({c: SPECS[c] for c in lost}, LOADS)
    assert {ticket.worker for ticket in again.values()} == {1}
    assert sessions.lost(list(SPECS)) == []
    assert sorted(pair.hosted[1].steps()) == sorted(SPECS), "the others' sessions are there still"
    sessions.close_all()
    assert not pair.hosted[1].steps()


def test_the_planner_is_told_when_other_workers_are_there(
    sessions: WorkerSessions, pair: Pair
) -> None:
    first = sessions.describe()
    assert sessions.describe() is first, "nobody is asked again for nothing"
    pair.kill(0)
    sessions.restart_dead()
    then = sessions.describe()
    assert then.memory_bytes < first.memory_bytes
    assert then.max_sessions == first.max_sessions / 2


def test_with_nobody_left_it_says_so(sessions: WorkerSessions, pair: Pair) -> None:
    pair.kill(0)
    pair.kill(1)
    for call in (_load, lambda some: some.open_all(SPECS, LOADS)):
        with pytest.raises(WorkerUnavailableError, match="no worker of the pool lives"):
            call(sessions)
    assert sessions.traffic_of(list(SPECS)) == {}


def test_a_worker_that_cannot_say_how_far_it_is_costs_figures_alone(
    sessions: WorkerSessions, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> WorkDone:
        raise WorkerRejectedError("the split worker failed: a damaged stream (INTERNAL)")

    tickets = sessions.open_all(SPECS, LOADS)
    monkeypatch.setattr(pair.workers[0], "work_done", broken)
    known = {client for client, ticket in tickets.items() if ticket.worker == 1}
    assert sessions.traffic_of(list(SPECS)).keys() == known < SPECS.keys()
    sessions.close_all()


def test_what_a_living_worker_refuses_is_raised(sessions: WorkerSessions) -> None:
    wrong = {**SPECS, 2: SessionSpec(client=2, cut=99, ranks={})}
    with pytest.raises(SplitError, match="99"):
        sessions.open_all(wrong, LOADS)
    sessions.close_all()


def test_a_worker_that_does_not_close_its_sessions_does_not_hold_up_the_next_round(
    sessions: WorkerSessions, pair: Pair, monkeypatch: pytest.MonkeyPatch, flower_log: list[str]
) -> None:
    """Once it has been silent, it is not asked for each of its sessions."""
    sessions.open_all(SPECS, LOADS)
    close, asked = pair.hosted[0].close, []

    def fail(token: str) -> None:
        asked.append(token)
        raise WorkerUnavailableError("not now")

    monkeypatch.setattr(pair.hosted[0], "close", fail)
    sessions.close_all()
    assert len(asked) == 1
    assert len([line for line in flower_log if "could not be closed: not now" in line]) == 1
    assert len(pair.hosted[0].steps()) == 2
    assert not pair.hosted[1].steps()
    monkeypatch.setattr(pair.hosted[0], "close", close)
    sessions.load_update({})
    assert not pair.hosted[0].steps()
    sessions.open_all(SPECS, LOADS)
    sessions.close_all()
    assert not pair.hosted[0].steps()


def test_more_clients_than_a_worker_has_sessions_for_are_refused_before_any_is_opened(
    model: str,
) -> None:
    own = Worker(operator_token=OPERATOR_TOKEN, max_sessions=len(SPECS) - 1)
    hosted = host_worker(Model(name=model), own)
    remote = RemoteWorker(hosted.address, OPERATOR_TOKEN)
    sessions = WorkerSessions(settings_of(model), remote)
    sessions.open_worker(num_blocks=3)
    with pytest.raises(ConfigError, match=r"4 clients, .* serves 3 at a time: .*--max-sessions"):
        sessions.open_all(SPECS, LOADS)
    assert not hosted.steps()
    fewer = {client: SPECS[client] for client in (0, 1, 2)}
    assert sessions.open_all(fewer, LOADS).keys() == fewer.keys()
    sessions.close_worker()
    remote.stop()
    hosted.stop()
