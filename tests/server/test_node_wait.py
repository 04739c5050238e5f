"""It is waited for nodes, in words, and not for ever."""

from typing import Any

import pytest

from hsplit_flower.errors import NodesMissingError
from hsplit_flower.server.node_wait import wait_for_nodes

LONG_IDS = (13816022929839679101, 8939289273757598247)


class Nodes:
    """Of a grid: who is connected, another answer each time until the last."""

    def __init__(self, *answers: list[int]) -> None:
        self._answers = list(answers)

    def get_node_ids(self) -> list[int]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def waited(nodes: Nodes, least: int, **options: Any) -> list[int]:
    return wait_for_nodes(nodes, least, **options)  # type: ignore[arg-type]


def test_it_goes_on_when_enough_are_there(flower_log: list[str]) -> None:
    assert waited(Nodes([1], [1, 2]), 2, limit_seconds=60.0) == [1, 2]
    (told,) = flower_log
    assert "Waiting: 1 of 2 nodes are connected; 60 s more at most" in told


def test_who_is_there_already_is_not_waited_for(flower_log: list[str]) -> None:
    assert waited(Nodes([3, 4]), 2, limit_seconds=60.0) == [3, 4]
    assert not flower_log


def test_after_the_limit_it_says_who_is_gone_and_what_to_change() -> None:
    known = {node: f"clinic-{place}" for place, node in enumerate((2, *LONG_IDS))}
    with pytest.raises(NodesMissingError) as ended:
        waited(Nodes([2]), 3, limit_seconds=0.01, known=known)
    told = str(ended.value)
    assert "1 of 3 nodes are connected, clients clinic-1, clinic-2 are gone, after" in told
    assert not any(str(node) in told for node in LONG_IDS)
    assert "sampling.min-available-nodes" in told and "sampling.wait-seconds" in told


def test_of_many_that_are_gone_some_are_named() -> None:
    known = {100 + place: f"clinic-{place}" for place in range(15)}
    with pytest.raises(NodesMissingError, match=r"clients clinic-0, .* clinic-9 and 5 more are"):
        waited(Nodes([]), 1, limit_seconds=0.01, known=known)


def test_a_node_that_was_not_there_before_may_be_one_that_is_gone() -> None:
    known = dict(zip(LONG_IDS, ("clinic-a", "clinic-b"), strict=True))
    with pytest.raises(NodesMissingError, match="client clinic-b is gone, or back as a new node,"):
        waited(Nodes([LONG_IDS[0], 5]), 3, limit_seconds=0.01, known=known)
