"""Who guesses tokens is slowed down, and nobody else."""

import pytest

from hsplit_flower.errors import AuthenticationError, WorkerUnavailableError
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.guesses import Guesses
from hsplit_flower.transport.remote_worker import RemoteWorker
from tests.workers import OPERATOR_TOKEN, running_worker

ATTACKER, NEIGHBOUR, HONEST = "ipv4:10.0.0.1:4711", "ipv4:10.0.0.1:4712", "ipv4:10.0.0.2:80"


class Clock:
    """Seconds that pass when they are told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _guessed(guesses: Guesses, peer: str, tries: int) -> int:
    """How many of so many wrong tokens are looked at."""
    looked_at = 0
    for _ in range(tries):
        try:
            guesses.check(peer)
        except WorkerUnavailableError:
            continue
        looked_at += 1
        guesses.note(peer, is_right=False)
    return looked_at


def test_a_host_has_so_many_guesses_and_then_one_in_so_long() -> None:
    clock = Clock()
    guesses = Guesses(wrong_at_once=10, seconds_each=2.0, clock=clock)
    assert _guessed(guesses, ATTACKER, 1000) == 10
    assert _guessed(guesses, NEIGHBOUR, 1000) == 0, "another port is not another host"
    guesses.check(HONEST)
    for _ in range(50):
        clock.seconds += 2.0
        assert _guessed(guesses, ATTACKER, 1000) == 1
    clock.seconds += 1000.0
    assert _guessed(guesses, ATTACKER, 1000) == 10
    with pytest.raises(WorkerUnavailableError, match=r"from 10\.0\.0\.1: try again in 2\.0 s"):
        guesses.check(ATTACKER)


def test_a_connection_that_knew_the_token_is_not_its_hosts() -> None:
    guesses = Guesses()
    guesses.note(NEIGHBOUR, is_right=True)
    _guessed(guesses, ATTACKER, 1000)
    guesses.check(NEIGHBOUR)
    guesses.note(NEIGHBOUR, is_right=False)
    with pytest.raises(WorkerUnavailableError):
        guesses.check(NEIGHBOUR)


def test_all_of_a_network_of_ipv6_are_one() -> None:
    guesses = Guesses(wrong_at_once=10)
    peers = [f"ipv6:%5B2001:db8::{number:x}%5D:1" for number in range(100)]
    assert sum(_guessed(guesses, peer, 1) for peer in peers) == 10
    assert _guessed(guesses, "ipv6:%5B2001:db8:1::1%5D:1", 1) == 1


def test_what_is_remembered_is_bounded() -> None:
    guesses = Guesses(most_peers=100)
    for number in range(10_000):
        guesses.note(f"ipv4:10.{number // 250}.{number % 250}.1:1", is_right=False)
        guesses.note(f"ipv4:11.{number // 250}.{number % 250}.1:1", is_right=True)
    assert len(guesses) == 100
    assert len(guesses._known) <= 256


def test_a_worker_slows_guesses_and_still_serves_its_operator() -> None:
    hasty = ChannelSettings(num_tries=1, step_timeout_seconds=10.0)
    with running_worker("llama") as worker:
        # gRPC gives channels of one process that are set alike one connection.
        other = ChannelSettings(num_tries=1, max_message_bytes=2**20)
        operator = RemoteWorker(worker.address, OPERATOR_TOKEN, other)
        operator.describe()
        stranger = RemoteWorker(worker.address, "a guess", hasty)
        for _ in range(30):
            nobody = RemoteWorker(worker.address, "", hasty)
            with pytest.raises(AuthenticationError):
                nobody.steps()
            nobody.stop()
        refusals = []
        for _ in range(30):
            with pytest.raises((AuthenticationError, WorkerUnavailableError)) as refused:
                stranger.steps()
            refusals.append(type(refused.value))
        assert refusals[:10] == [AuthenticationError] * 10
        assert refusals.count(WorkerUnavailableError) >= 15
        assert operator.steps() == {}
        stranger.stop()
        operator.stop()
