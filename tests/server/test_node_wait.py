"""It is waited for nodes, in words, and not for ever."""

from typing import Any

import pytest

from hsplit_flower.errors import NodesMissingError
from hsplit_flower.server.node_wait import wait_for_nodes


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
    with pytest.raises(NodesMissingError) as ended:
        waited(Nodes([2]), 3, limit_seconds=0.01, known=[1, 2, 9])
    told = str(ended.value)
    assert "1 of 3 nodes are connected, clients 1, 9 are gone" in told
    assert "sampling.min-available-nodes" in told and "sampling.wait-seconds" in told


def test_of_many_that_are_gone_some_are_named() -> None:
    with pytest.raises(NodesMissingError, match=r"clients 0, .* 9 and 5 more are gone"):
        waited(Nodes([]), 1, limit_seconds=0.01, known=range(15))
