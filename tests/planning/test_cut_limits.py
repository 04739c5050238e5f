"""What keeps a cut from being deeper is so: take it away, and the cut gets deeper."""

from dataclasses import replace

import pytest

from hsplit_flower.planning import plan
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import DeviceProfile
from tests.planning.planned import ROOM, costs_of, device

COSTS = costs_of("llama")

EXACT = PlanSettings(makespan_slack=0.0, checkpointing=False)


def cut_of(profile: DeviceProfile, worker: DeviceProfile, **settings: object) -> tuple[int, str]:
    part = plan(COSTS, {0: profile}, worker, settings=EXACT.replace(**settings)).clients[0]
    assert part.why
    return part.cut, part.binds


def test_who_is_short_of_memory_gets_a_deeper_cut_with_more() -> None:
    needed = plan(COSTS, {0: device(ROOM, 1e12)}, device(ROOM, 1e9), settings=EXACT).clients[0]
    small = device(0.6 * needed.memory.total_bytes, 1e12)
    cut, binds = cut_of(small, device(ROOM, 1e9))
    assert (binds, cut < needed.cut) == ("memory", True)
    assert cut_of(device(ROOM, 1e12), device(ROOM, 1e9))[0] > cut


def test_who_has_all_that_may_be_had_is_bound_by_the_worker_alone() -> None:
    cut, binds = cut_of(device(ROOM, 1e14), device(ROOM, 1e9))
    assert (cut, binds) == (EXACT.deepest_cut(COSTS.num_blocks), "worker")


def test_who_computes_slowly_gets_a_deeper_cut_when_it_is_faster() -> None:
    cut, binds = cut_of(device(ROOM, 1e9), device(ROOM, 1e10))
    assert binds == "client"
    assert cut_of(device(ROOM, 1e11), device(ROOM, 1e10))[0] > cut


def test_who_sends_slowly_is_bound_by_its_link() -> None:
    slow = replace(device(ROOM, 1e12), up_bytes_per_second=1e4, down_bytes_per_second=1e4)
    assert cut_of(slow, device(ROOM, 1e12))[1] in ("link", "worker")
    fast = device(ROOM, 1e12)
    both = plan(COSTS, {0: slow, 1: fast}, device(ROOM, 1e12), settings=EXACT).clients
    if both[0].cut < EXACT.deepest_cut(COSTS.num_blocks):
        assert both[0].binds == "link" and "on its link" in both[0].why


@pytest.mark.parametrize("one_cut", [True])
def test_a_method_of_one_cut_says_so(one_cut: bool) -> None:
    small = device(ROOM, 1e9)
    parts = plan(
        COSTS, {0: small, 1: small}, device(ROOM, 1e10), settings=EXACT.replace(one_cut=one_cut)
    ).clients
    assert {part.binds for part in parts.values()} <= {"method", "worker", "memory"}
