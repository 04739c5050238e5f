"""Sessions on two workers, of which one may stop at any moment; the workers are real."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from hsplit_flower.errors import ConfigError, SplitError, WorkerUnavailableError
from hsplit_flower.server.worker_sessions import WorkerSessions
from hsplit_flower.settings import Training
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.types import SessionSpec, WorkerDescription
from hsplit_flower.worker.group import WorkerGroup, described_together
from hsplit_flower.worker.hosting import HostedWorker, WorkerSettings, host_worker
from tests.strategies.fixtures import OPERATOR_TOKEN

SPECS = {client: SessionSpec(client=client, cut=1, ranks={}) for client in range(4)}
LOADS = dict.fromkeys(SPECS, 1.0)


class Pair:
    """Workers in this process that are reached over the loopback and are not started again."""

    def __init__(self, model: str) -> None:
        settings = WorkerSettings(model=model, operator_token=OPERATOR_TOKEN)
        self.hosted: dict[int, HostedWorker] = {n: host_worker(settings) for n in range(2)}
        impatient = ChannelSettings(step_timeout_seconds=5.0, num_tries=1)
        self.workers = {
            number: RemoteWorker(worker.address, OPERATOR_TOKEN, impatient)
            for number, worker in self.hosted.items()
        }

    def describe(self) -> WorkerDescription:
        return described_together((n, w.describe()) for n, w in self.workers.items())

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
def book(model: str, pair: Pair) -> WorkerSessions:
    some = WorkerSessions(model, None)
    group: WorkerGroup = pair
    some._group = group
    return some


def test_sessions_lie_on_both_and_are_asked_where_they_lie(
    book: WorkerSessions, pair: Pair
) -> None:
    book.load_update({})
    tickets = book.open_all(SPECS, LOADS)
    assert Counter(ticket.worker for ticket in tickets.values()) == {0: 2, 1: 2}
    for client, ticket in tickets.items():
        assert ticket.address == pair.hosted[ticket.worker].address
        assert client in pair.hosted[ticket.worker].steps()
        assert book.collect(client).num_steps == 0
    assert book.steps() == 0
    assert book.lost(list(SPECS)) == []
    book.close_all()
    assert not any(worker.steps() for worker in pair.hosted.values())


def _load(book: WorkerSessions) -> None:
    book.load_update({})


def _open(book: WorkerSessions) -> None:
    tickets = book.open_all(SPECS, LOADS)
    assert {ticket.worker for ticket in tickets.values()} == {1}


@pytest.mark.parametrize("call", [_load, _open], ids=["load_update", "open_all"])
def test_a_worker_that_is_gone_is_noticed_and_left_out(
    book: WorkerSessions, pair: Pair, flower_log: list[str], call: Callable[[WorkerSessions], None]
) -> None:
    pair.kill(0)
    call(book)
    assert list(pair.workers) == [1]
    assert "worker 0 was stopped" in flower_log
    book.close_all()


def test_sessions_that_were_lost_are_named_and_opened_on_the_other(
    book: WorkerSessions, pair: Pair
) -> None:
    tickets = book.open_all(SPECS, LOADS)
    pair.kill(0)
    lost = book.lost(list(SPECS))
    assert lost == [client for client, ticket in tickets.items() if ticket.worker == 0]
    with pytest.raises(WorkerUnavailableError, match="went with the worker"):
        book.collect(lost[0])
    again = book.open_all({c: SPECS[c] for c in lost}, LOADS)
    assert {ticket.worker for ticket in again.values()} == {1}
    assert book.lost(list(SPECS)) == []
    assert sorted(pair.hosted[1].steps()) == sorted(SPECS), "the others' sessions are there still"
    book.close_all()
    assert not pair.hosted[1].steps()


def test_the_planner_is_told_when_other_workers_are_there(book: WorkerSessions, pair: Pair) -> None:
    first = book.restart_dead()
    assert first is not None
    assert book.restart_dead() is None
    pair.kill(0)
    then = book.restart_dead()
    assert then is not None
    assert then.memory_bytes < first.memory_bytes


def test_with_nobody_left_it_says_so(book: WorkerSessions, pair: Pair) -> None:
    pair.kill(0)
    pair.kill(1)
    for call in (_load, lambda some: some.open_all(SPECS, LOADS)):
        with pytest.raises(WorkerUnavailableError, match="no worker of the pool lives"):
            call(book)


def test_what_a_living_worker_refuses_is_raised(book: WorkerSessions) -> None:
    wrong = {**SPECS, 2: SessionSpec(client=2, cut=99, ranks={})}
    with pytest.raises(SplitError, match="99"):
        book.open_all(wrong, LOADS)
    book.close_all()


def test_a_worker_that_does_not_close_its_sessions_does_not_hold_up_the_next_round(
    book: WorkerSessions, pair: Pair, monkeypatch: pytest.MonkeyPatch, flower_log: list[str]
) -> None:
    """Once it has been silent, it is not asked for each of its sessions."""
    book.open_all(SPECS, LOADS)
    close, asked = pair.hosted[0].close, []

    def fail(token: str) -> None:
        asked.append(token)
        raise WorkerUnavailableError("not now")

    monkeypatch.setattr(pair.hosted[0], "close", fail)
    book.close_all()
    assert len(asked) == 1
    assert len([line for line in flower_log if "could not be closed: not now" in line]) == 1
    assert len(pair.hosted[0].steps()) == 2
    assert not pair.hosted[1].steps()
    monkeypatch.setattr(pair.hosted[0], "close", close)
    book.load_update({})
    assert not pair.hosted[0].steps()
    book.open_all(SPECS, LOADS)
    book.close_all()
    assert not pair.hosted[0].steps()


def test_more_clients_than_a_worker_has_sessions_for_are_refused_before_any_is_opened(
    model: str,
) -> None:
    hosted = host_worker(
        WorkerSettings(model=model, operator_token=OPERATOR_TOKEN, max_sessions=len(SPECS) - 1)
    )
    remote = RemoteWorker(hosted.address, OPERATOR_TOKEN)
    book = WorkerSessions(model, remote)
    training = Training(batch_size=3, sequence_length=9)
    book.open_worker(training, lowest_cut=1, num_blocks=3)
    with pytest.raises(ConfigError, match=r"4 clients, .* serves 3 at a time: .*--max-sessions"):
        book.open_all(SPECS, LOADS)
    assert not hosted.steps()
    fewer = {client: SPECS[client] for client in (0, 1, 2)}
    assert book.open_all(fewer, LOADS).keys() == fewer.keys()
    book.close_worker()
    remote.stop()
    hosted.stop()
