"""Leases of a card: how large, never too many at a time, and given back whatever happens."""

import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from ray.util.placement_group import placement_group_table

from hsplit_flower.errors import ConfigError, LeaseError, NoCardError
from hsplit_flower.simulation.lease import card_of, gpu_fraction, gpu_fractions, leased
from tests.ray_starts import RAY_STARTS

NUM_CARDS = 2
PATIENCE_SECONDS = 60.0

# Ray's own sockets and processes end when they please.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
]


@pytest.mark.parametrize(
    ("budget", "card", "wanted"),
    [(5e9, 20e9, 0.25), (20e9, 20e9, 1.0), (1e9, 3e9, 0.3334), (0.7e9, 1e9, 0.7), (1, 80e9, 1e-4)],
)
def test_the_part_of_a_card_is_the_budget_over_its_memory_rounded_up(
    budget: float, card: float, wanted: float
) -> None:
    assert gpu_fraction(budget, card) == pytest.approx(wanted, abs=1e-9)
    assert gpu_fraction(budget, card) * card >= budget * (1 - 1e-12)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_size_has_no_part(budget: float) -> None:
    with pytest.raises(ConfigError, match="positive number of bytes"):
        gpu_fraction(budget, 16e9)
    with pytest.raises(ConfigError, match="positive number of bytes"):
        gpu_fraction(16e9, budget)


@pytest.mark.parametrize("card", [1.0, 24e18, 1e300])
def test_a_card_that_nobody_has_is_refused(card: float) -> None:
    with pytest.raises(ConfigError, match=r"a card's memory in GB is .*, no device has that"):
        gpu_fraction(1.0, card)


def test_a_budget_is_never_so_small_that_it_leases_nothing() -> None:
    assert gpu_fraction(1e-9, 80e9) == 1e-4


def test_every_client_that_is_larger_than_a_card_is_named() -> None:
    with pytest.raises(ConfigError, match=r"client 2: .*larger than a card.*client 5: ") as caught:
        gpu_fractions({1: 4e9, 2: 17e9, 5: 80e9}, 16e9)
    assert "client 1" not in str(caught.value)
    assert gpu_fractions({1: 4e9, 2: 16e9}, 16e9) == {1: 0.25, 2: 1.0}


def test_no_lease_needs_no_ray() -> None:
    program = (
        "import sys\n"
        "from hsplit_flower.simulation.lease import leased\n"
        "with leased(0.0, timeout_seconds=1.0) as device:\n"
        "    assert device in ('cpu', 'cuda')\n"
        "assert 'ray' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=60)


@ray.remote(num_cpus=0)
class Client:
    """A virtual client that holds its lease until it is told to end."""

    def process(self) -> int:
        return os.getpid()

    def train(self, fraction: float, seconds: float, timeout_seconds: float = 60.0) -> str:
        with leased(fraction, timeout_seconds=timeout_seconds) as device:
            time.sleep(seconds)
        return device

    def fail(self, fraction: float) -> None:
        with leased(fraction, timeout_seconds=60.0):
            raise ValueError("the training failed")


@pytest.fixture(scope="module")
def cards() -> Iterator[None]:
    # A socket's path has at most 107 bytes, and the tests' own folder may be a long one.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as home:
        for attempt in range(RAY_STARTS):
            try:
                _start_ray(home)
                break
            except Exception as error:  # Ray's own are bare
                ray.shutdown()
                if "timed out" not in str(error) or attempt == RAY_STARTS - 1:
                    raise
        yield
        ray.shutdown()
    # What Ray leaves unclosed is collected here, where its warnings are expected.
    gc.collect()


def _start_ray(home: str) -> None:
    ray.init(
        num_cpus=2,
        num_gpus=NUM_CARDS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=home,
    )


def _free() -> float:
    return float(ray.available_resources().get("GPU", 0.0))


def _wait_for_free(wanted: float) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while abs(_free() - wanted) > 1e-6:
        assert time.monotonic() < deadline, f"{_free()} cards are free, not {wanted}"
        time.sleep(0.02)


def _standing() -> list[str]:
    return [name for name, at in placement_group_table().items() if at["state"] != "REMOVED"]


@pytest.fixture(scope="module")
def clients(cards: None) -> list[Any]:
    """Virtual clients whose processes run already."""
    started = [Client.remote() for _ in range(NUM_CARDS + 1)]
    ray.get([client.process.remote() for client in started])
    return started


def test_a_lease_is_held_and_given_back(clients: list[Any]) -> None:
    training = clients[0].train.remote(0.4, 3.0)
    _wait_for_free(NUM_CARDS - 0.4)
    assert len(_standing()) == 1
    ray.get(training)
    _wait_for_free(NUM_CARDS)
    assert _standing() == []


def test_a_lease_is_given_back_when_training_fails(clients: list[Any]) -> None:
    with pytest.raises(ValueError, match="the training failed"):
        ray.get(clients[0].fail.remote(0.4))
    _wait_for_free(NUM_CARDS)


def test_who_finds_no_room_waits_and_then_gives_up(clients: list[Any]) -> None:
    *holders, late = clients
    training = [holder.train.remote(0.6, 3.0) for holder in holders]
    _wait_for_free(NUM_CARDS - 1.2)
    with pytest.raises(LeaseError, match="was not free within"):
        ray.get(late.train.remote(0.6, 0.0, timeout_seconds=0.2))
    # Who is patient gets what the first gives back.
    served = late.train.remote(0.6, 0.0)
    assert ray.wait([served], timeout=0.1)[0] == []
    ray.get([*training, served])
    _wait_for_free(NUM_CARDS)


@pytest.mark.parametrize("how", ["by Ray", "by a signal"])
def test_a_lease_is_given_back_when_its_owner_is_killed(clients: list[Any], how: str) -> None:
    client = clients.pop()
    process = ray.get(client.process.remote())
    client.train.remote(0.7, 1000.0)
    _wait_for_free(NUM_CARDS - 0.7)
    if how == "by Ray":
        ray.kill(client)
    else:
        os.kill(process, signal.SIGKILL)
    _wait_for_free(NUM_CARDS)
    assert _standing() == []


def test_more_than_a_card_is_refused_at_once(clients: list[Any]) -> None:
    with pytest.raises(NoCardError, match="Ray has 2 here"):
        ray.get(clients[0].train.remote(3.0, 0.0))


def test_a_real_card_must_have_what_its_clients_share(
    cards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SimpleNamespace(total_memory=16 * 10**9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    with leased(0.5, card_bytes=16e9, timeout_seconds=60.0) as device:
        assert device == "cuda:0"
    too_much = leased(0.5, card_bytes=24e9, timeout_seconds=60.0)
    with pytest.raises(NoCardError, match="card 0 has 16 GB"), too_much:
        pytest.fail("trains all the same")
    _wait_for_free(NUM_CARDS)


@pytest.mark.long
def test_a_lease_lies_on_one_card(cards: None) -> None:
    @ray.remote(num_cpus=0)
    def cards_of(fractions: list[float]) -> list[int]:
        from ray.util.placement_group import placement_group

        groups: list[Any] = [placement_group([{"GPU": fraction}]) for fraction in fractions]
        assert all(group.wait(60) for group in groups)
        found = [card_of(group, part) for group, part in zip(groups, fractions, strict=True)]
        for group in groups:
            ray.util.remove_placement_group(group)
        return found

    assert sorted(ray.get(cards_of.remote([0.8, 0.8]))) == [0, 1]
    _wait_for_free(NUM_CARDS)
