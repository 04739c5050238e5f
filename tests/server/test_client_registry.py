"""Who is asked what it has, and when anew; every question is really answered."""

from collections.abc import Collection, Iterable

import pytest
from flwr.app import Message

from hsplit_flower.server.client_registry import ClientRegistry
from hsplit_flower.settings import Model
from tests.strategies.clients import NAMES, NODES, client_app, node_configs
from tests.strategies.local_grid import LocalGrid

FIRST, SECOND, THIRD = NODES


class Counting(LocalGrid):
    """Remembers who was asked together."""

    def __init__(self) -> None:
        super().__init__(client_app(), node_configs(**{"memory-gb": 1.0, "flops": 1e9}))
        self.asked: list[set[int]] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        ready = list(messages)
        self.asked.append({message.metadata.dst_node_id for message in ready})
        return super().send_and_receive(ready, timeout=timeout)

    def set(self, node: int, **settings: float | str) -> None:
        changed = {key.replace("_", "-"): value for key, value in settings.items()}
        self.nodes[node] = {**self.nodes[node], **changed}


def asked(
    registry: ClientRegistry, grid: LocalGrid, nodes: Iterable[int], *, anew: Collection[int] = ()
) -> ClientRegistry:
    return registry.asked(grid, nodes, model=Model(), anew=anew)


def test_all_are_asked_anew_together_with_who_is_not_known() -> None:
    registry = ClientRegistry()
    with Counting() as grid:
        registry = asked(registry, grid, [FIRST, SECOND])
        assert set(registry.known) == {FIRST, SECOND}
        grid.set(FIRST, memory_gb=2.0)
        registry = asked(registry, grid, [SECOND, THIRD], anew={FIRST, SECOND})
        assert grid.asked == [{FIRST, SECOND}, set(NODES)]
        assert set(registry.among([SECOND, THIRD])) == {SECOND, THIRD}
        assert registry.among(NODES)[FIRST].profile.memory_bytes == 2e9
        assert asked(registry, grid, NODES) is registry
        assert len(grid.asked) == 2, "nobody is asked for nothing"


@pytest.mark.parametrize(
    ("memory_gb", "flops", "told"),
    [(1.01, 2e9, (1.01e9, 2e9)), (0.95, 1.2e9, (1e9, 1e9)), (0.8, 1.2e9, (0.8e9, 1.2e9))],
)
def test_a_little_more_memory_is_news_from_who_is_asked_anew(
    memory_gb: float, flops: float, told: tuple[float, float]
) -> None:
    registry = ClientRegistry()
    with Counting() as grid:
        registry = asked(registry, grid, [FIRST])
        grid.set(FIRST, memory_gb=memory_gb, flops=flops)
        profile = asked(registry, grid, [FIRST], anew={FIRST}).known[FIRST].profile
    assert (profile.memory_bytes, profile.flops_per_second) == pytest.approx(told)


def test_who_does_not_answer_anew_is_a_stranger_until_it_does() -> None:
    registry = ClientRegistry()
    with Counting() as grid:
        registry = asked(registry, grid, [FIRST, SECOND])
        grid.set(FIRST, memory_gb="plenty")
        registry = asked(registry, grid, [FIRST, SECOND], anew={FIRST})
        assert set(registry.among([FIRST, SECOND])) == {SECOND}
        assert set(registry.among(NODES)) == {SECOND}
        grid.set(FIRST, memory_gb=1.0)
        registry = asked(registry, grid, [FIRST, SECOND])
        assert set(registry.among([FIRST, SECOND])) == {FIRST, SECOND}
        assert grid.asked == [{FIRST, SECOND}, {FIRST}, {FIRST}]


def test_clients_are_called_what_they_say_and_keep_it() -> None:
    with Counting() as grid:
        registry = asked(ClientRegistry(), grid, NODES)
        assert registry.names.by_client == NAMES
        grid.set(SECOND, name="renamed", memory_gb=2.0)
        registry = asked(registry, grid, NODES, anew={SECOND})
        assert registry.names.of(SECOND) == NAMES[SECOND]


def test_two_of_one_name_are_told_apart_by_their_partitions_order() -> None:
    with Counting() as grid:
        for node in NODES:
            grid.set(node, name="clinic-a")
        names = asked(ClientRegistry(), grid, [THIRD, SECOND, FIRST]).names
    told = [names.of(node) for node in NODES]
    assert told == ["clinic-a", "clinic-a (2)", "clinic-a (3)"]


def test_a_name_is_one_short_line_whatever_it_says() -> None:
    with Counting() as grid:
        grid.set(FIRST, name="a\n\x1b[31m\u202eINFO: all is well")
        grid.set(SECOND, name="x" * 10_000)
        names = asked(ClientRegistry(), grid, [FIRST, SECOND]).names
    for node in (FIRST, SECOND):
        assert names.of(node).isprintable() and len(names.of(node)) < 80
    assert names.of(FIRST).startswith("a\\n\\x1b[31m\\u202eINFO")


def test_who_has_not_answered_has_a_name_and_a_reason_until_it_does(
    flower_log: list[str],
) -> None:
    with Counting() as grid:
        grid.set(FIRST, memory_gb="plenty")
        registry = asked(ClientRegistry(), grid, [FIRST, SECOND])
        assert registry.names.of(FIRST) == NAMES[FIRST], "its reason says whose it is"
        assert "memory-gb is 'plenty'" in registry.unanswered[FIRST]
        assert any(f"client {NAMES[FIRST]} is left out: ConfigError" in line for line in flower_log)
        assert not [line for line in flower_log if str(FIRST) in line]
        grid.set(FIRST, memory_gb=1.0)
        registry = asked(registry, grid, [FIRST, SECOND])
    assert registry.names.of(FIRST) == NAMES[FIRST]
    assert not registry.unanswered


def test_a_node_that_cannot_work_is_told_once_with_its_name_and_again_for_another_reason(
    flower_log: list[str],
) -> None:
    registry = ClientRegistry()
    with Counting() as grid:
        grid.set(FIRST, name="clinic-a", model="/nowhere")
        for _ in range(3):
            registry = asked(registry, grid, NODES)
        told = [line for line in flower_log if "left out" in line]
        assert len(told) == 1 and "client clinic-a is left out: UnsupportedModelError" in told[0]
        assert set(registry.known) == {SECOND, THIRD}
        assert sum("Asking" in line for line in flower_log) == 1, "who is asked again is no news"
        grid.set(FIRST, model="llama-tiny", memory_gb="plenty")
        asked(registry, grid, NODES)
    assert sum("client clinic-a is left out" in line for line in flower_log) == 2
