"""How many workers there are to be and what each asks of Ray, from what Ray says of its nodes."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.errors import ConfigError, WorkerUnavailableError
from hsplit_flower.settings import Worker
from hsplit_flower.worker.pool.cluster import _check_is_meant, connected, places_for, stands_for_all
from hsplit_flower.worker.pool.pool import _port_of

HERE = {"NodeID": "here", "Alive": True, "Resources": {"CPU": 8.0, "node:10.0.0.1": 1.0}}
CARDS = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0}
THERE = {"NodeID": "there", "Alive": True, "Resources": CARDS}
DEAD = {"NodeID": "dead", "Alive": False, "Resources": CARDS}
VIRTUAL = {"NodeID": "here", "Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}}


def asked(num_workers: int = 0, **worker: Any) -> Worker:
    return Worker(placement="ray", num_workers=num_workers, **worker)


EVERYWHERE = {"host": "0.0.0.0", "insecure": True}


@pytest.mark.parametrize(
    ("settings", "nodes", "num_workers", "num_gpus", "node"),
    [
        (asked(), [HERE], 1, 0, "here"),
        (asked(3), [HERE], 3, 0, "here"),
        (asked(), [HERE, THERE], 1, 0, "here"),
        (asked(**EVERYWHERE), [HERE, THERE, DEAD], 2, 1, None),
        (asked(1, **EVERYWHERE), [HERE, THERE], 1, 1, None),
        (asked(5, device="cpu", **EVERYWHERE), [HERE, THERE], 5, 0, None),
        (asked(advertised_host="example.org", **EVERYWHERE), [HERE, THERE], 1, 0, "here"),
        (asked(), [VIRTUAL], 1, 0, "here"),
    ],
    ids=[
        "one on a CPU",
        "so many on a CPU",
        "cards of other nodes are not for loopback",
        "one a card",
        "fewer than cards",
        "CPUs although there are cards",
        "one advertised host is one node",
        "cards that a simulation only says it has",
    ],
)
def test_places(
    settings: Worker,
    nodes: list[dict[str, Any]],
    num_workers: int,
    num_gpus: int,
    node: str | None,
) -> None:
    places = places_for(settings, nodes, "here")
    assert (places.num_workers, places.num_gpus, places.node_id) == (num_workers, num_gpus, node)
    assert places.num_cpus == 0.0, "simulated clients may hold all CPUs"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (asked(3, **EVERYWHERE), "3 workers are asked for.*Ray has 2 GPUs:"),
        (asked(device="cuda"), "1 workers are asked for.*Ray has 0 GPUs on this node"),
    ],
)
def test_more_workers_than_cards_are_refused(settings: Worker, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        places_for(settings, [HERE, THERE, DEAD], "here")


def test_settings_that_make_no_sense_are_refused_together() -> None:
    wanted = r"(?s)num_workers .*-1\n.*num_cpus .*nan\n.*placing_timeout"
    with pytest.raises(ConfigError, match=wanted):
        asked(num_workers=-1, num_cpus=float("nan"), placing_timeout_seconds=0.0)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("localhost", False), ("", False)],
)
def test_hosts_that_stand_for_every_interface(host: str, wanted: bool) -> None:
    assert stands_for_all(host) is wanted


def test_ports_end_somewhere() -> None:
    assert [_port_of(first, number) for first, number in ((0, 5), (8600, 0), (8600, 5))] == [
        0,
        8600,
        8605,
    ]
    with pytest.raises(ConfigError, match=r"worker 1 would listen on port 65536, and 65535"):
        _port_of(65535, 1)


@pytest.mark.parametrize("wanted", ["", "auto", "10.0.0.1:6379"])
def test_the_ray_of_this_process_is_the_one_that_is_meant(wanted: str) -> None:
    _check_is_meant("10.0.0.1:6379", wanted)


def test_another_ray_than_that_of_this_process_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'far:6379' is asked for.*'10.0.0.1:6379'.*simulation"):
        _check_is_meant("10.0.0.1:6379", "far:6379")


def test_a_ray_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(WorkerUnavailableError, match=f"no Ray at '{address}'.*[Rr]efused"),
            connected(address),
        ):
            pass


def test_the_operators_token_is_not_shown_with_the_settings() -> None:
    token = "a secret of some length"
    assert token not in repr(asked(operator_token=token))


@pytest.mark.long
def test_ray_is_not_imported_before_a_pool_is_started() -> None:
    program = (
        "import sys\n"
        "from hsplit_flower.strategies import HSplitLoRA\n"
        "from hsplit_flower.settings import Model, Worker\n"
        "from hsplit_flower.worker.pool import WorkerPool\n"
        "WorkerPool(Model(name='m'), Worker(placement='ray'))\n"
        "assert 'ray' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=100)
