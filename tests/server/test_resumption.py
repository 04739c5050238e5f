"""A state that another process left: whose it is, and under which ids its clients are there."""

from dataclasses import replace

import pytest

from hsplit_flower.adapters import LowRank
from hsplit_flower.devices.source import DevicesNow
from hsplit_flower.errors import ConfigError
from hsplit_flower.methods import MethodState
from hsplit_flower.server.client_registry import ClientRegistry
from hsplit_flower.server.memory_corrections import Correction, MemoryCorrections
from hsplit_flower.server.resumption import check_resumable, reunited
from hsplit_flower.server.state import RunState
from hsplit_flower.splitting import Checkpoint, read_architecture
from hsplit_flower.types import ClientInfo, DeviceProfile

ARCHITECTURE = read_architecture(Checkpoint(source="llama-tiny").config())
PROFILE = DeviceProfile(memory_bytes=1e9, flops_per_second=1e12)


def client(partition: int | None, num_examples: int = 5) -> ClientInfo:
    return ClientInfo(
        profile=PROFILE, num_examples=num_examples, partition=partition, num_partitions=3
    )


def left_state(**clients: ClientInfo) -> RunState:
    """One that says something of every client wherever it can."""
    known = {int(node.removeprefix("n")): info for node, info in clients.items()}
    nodes = frozenset(known)
    fresh = RunState.fresh(ARCHITECTURE.weights)
    return replace(
        fresh,
        server_round=2,
        method=replace(fresh.method, client_ranks={node: {"w": node} for node in nodes}),
        corrections=MemoryCorrections(by_client={node: Correction(factor=2.0) for node in nodes}),
        clients=ClientRegistry(known=known),
        devices=DevicesNow(profiles=dict.fromkeys(nodes, PROFILE), away=nodes),
        failed=nodes,
    )


def ids_in(state: RunState) -> list[set[int]]:
    return [
        set(state.method.client_ranks),
        set(state.corrections.by_client),
        set(state.clients.known),
        set(state.devices.profiles),
        set(state.devices.away),
        set(state.failed),
    ]


def test_who_comes_back_under_another_id_is_known_by_its_partition() -> None:
    state = left_state(n1=client(0), n2=client(1), n3=client(2))
    now = ClientRegistry(known={70: client(1), 3: client(2), 80: client(0)})
    after = reunited(state, now)
    assert ids_in(after) == [{80, 70, 3}] * 6
    assert after.method.client_ranks == {80: {"w": 1}, 70: {"w": 2}, 3: {"w": 3}}


@pytest.mark.parametrize(
    "now",
    [
        {70: client(None), 80: client(None)},
        # Of two who say that they are one, nobody knows which it is.
        {70: client(0), 80: client(0)},
        # Who is there under its old id keeps it, whatever it says.
        {1: client(5), 2: client(6), 70: client(0), 80: client(1)},
    ],
    ids=["no partition", "one partition twice", "old ids"],
)
def test_who_it_is_is_not_guessed(now: dict[int, ClientInfo]) -> None:
    state = left_state(n1=client(0), n2=client(1))
    assert ids_in(reunited(state, ClientRegistry(known=now))) == [{1, 2}] * 6


def test_a_state_of_another_model_is_refused() -> None:
    state = left_state(n1=client(0))
    check_resumable(state, ARCHITECTURE, num_rounds=3)
    name = next(iter(state.method.updates))
    other = {**state.method.updates, name: LowRank.zeros(3, 4)}
    strange = replace(state, method=MethodState(updates=other))
    with pytest.raises(ConfigError, match=r"is of another model: .* is \(3, 4\) in it"):
        check_resumable(strange, ARCHITECTURE, num_rounds=3)
    fewer = replace(state, method=MethodState(updates={}))
    with pytest.raises(ConfigError, match="is missing in it"):
        check_resumable(fewer, ARCHITECTURE, num_rounds=3)


def test_a_run_that_has_all_its_rounds_does_not_go_on() -> None:
    with pytest.raises(ConfigError, match="of round 2, and 2 rounds are wanted in all"):
        check_resumable(left_state(n1=client(0)), ARCHITECTURE, num_rounds=2)
