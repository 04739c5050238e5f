"""The cards of Ray's nodes: whether there are any, whether torch sees them, how large they are."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hsplit_flower.devices.cards import (
    are_real,
    check_card,
    check_cluster,
    check_node,
    number_in_torch,
)
from hsplit_flower.errors import NoCardError

BARE: dict[str, float] = {"CPU": 8.0, "node:10.0.0.1": 1.0}
VIRTUAL = BARE | {"GPU": 1.0}
REAL = VIRTUAL | {"accelerator_type:A100": 1.0}


def _node(resources: dict[str, float], *, lives: bool = True) -> dict[str, Any]:
    return {"NodeID": "n", "Alive": lives, "Resources": resources}


def _torch_sees(monkeypatch: pytest.MonkeyPatch, *, cards: int, total_bytes: int = 0) -> None:
    properties = SimpleNamespace(total_memory=total_bytes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)


def test_a_card_is_real_where_ray_has_found_it() -> None:
    assert [are_real(resources) for resources in (BARE, VIRTUAL, REAL)] == [False, False, True]


@pytest.mark.parametrize(
    "nodes", [[], [_node(BARE)], [_node(BARE), _node(REAL, lives=False)]], ids=len
)
def test_a_ray_without_a_card_is_told_how_to_have_one(nodes: list[dict[str, Any]]) -> None:
    with pytest.raises(NoCardError, match=r"Ray has none: .*'init-args-num-gpus=1'"):
        check_cluster(nodes)
    check_cluster([*nodes, _node(VIRTUAL)])
    check_cluster([*nodes, _node(REAL)])


def test_a_node_must_have_what_is_leased_there(monkeypatch: pytest.MonkeyPatch) -> None:
    _torch_sees(monkeypatch, cards=0)
    check_node(VIRTUAL, 1.0)
    with pytest.raises(NoCardError, match=r"0.5 of a card is to be leased, Ray has 0 here"):
        check_node(BARE, 0.5)


def test_who_leases_a_real_card_must_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _torch_sees(monkeypatch, cards=0)
    with pytest.raises(NoCardError, match=r"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0"):
        check_node(REAL, 0.5)
    _torch_sees(monkeypatch, cards=1)
    check_node(REAL, 0.5)


def test_a_card_must_have_what_its_clients_share(monkeypatch: pytest.MonkeyPatch) -> None:
    _torch_sees(monkeypatch, cards=1, total_bytes=16 * 10**9)
    check_card(0, 16e9)
    check_card(0, 0.0)
    with pytest.raises(
        NoCardError, match=r"parts of 24 GB are leased, and card 0 has 16 GB: .*-gb"
    ):
        check_card(0, 24e9)


@pytest.mark.parametrize(
    ("shown", "name", "number"), [("", "1", 1), ("2,3", "3", 1), ("GPU-a,GPU-b", "GPU-b", 1)]
)
def test_torch_counts_the_cards_that_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, shown: str, name: str, number: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert number_in_torch(name) == number
