"""What keeps a cut from being deeper is so: take it away, and the cut gets deeper."""

from hsplit_flower.planning import plan
from hsplit_flower.planning.choices import CutChoices
from hsplit_flower.planning.tables import Tables
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
    worker = device(ROOM, 1e9)
    deepest = EXACT.deepest_cut(COSTS.num_blocks)
    choices = CutChoices(Tables(costs=COSTS, settings=EXACT, update_ranks={}, importance=None))
    for cut in range(1, deepest):
        assert cut_of(device(choices.needed_bytes(cut), 1e14), worker) == (cut, "memory")
        assert cut_of(device(choices.needed_bytes(cut + 1), 1e14), worker)[0] == cut + 1


def test_who_has_all_that_may_be_had_is_bound_by_the_worker_alone() -> None:
    cut, binds = cut_of(device(ROOM, 1e14), device(ROOM, 1e9))
    assert (cut, binds) == (EXACT.deepest_cut(COSTS.num_blocks), "worker")


def test_who_computes_slowly_gets_a_deeper_cut_when_it_is_faster() -> None:
    cut, binds = cut_of(device(ROOM, 1e9), device(ROOM, 1e10))
    assert binds == "client"
    assert cut_of(device(ROOM, 1e11), device(ROOM, 1e10))[0] > cut


def test_who_sends_slowly_is_bound_by_its_link() -> None:
    slow, worker = device(ROOM, 1e12, 1e4), device(ROOM, 1e15)
    made = plan(COSTS, {0: slow}, worker, settings=EXACT)
    cut, binds = cut_of(slow, worker)
    # The worker takes next to nothing, and a deeper cut makes the slowest step longer.
    assert cut < EXACT.deepest_cut(COSTS.num_blocks) and binds == "link"
    assert "of them on its link" in made.clients[0].why


def test_a_method_of_one_cut_says_so() -> None:
    settings = EXACT.replace(one_cut=True)
    choices = CutChoices(Tables(costs=COSTS, settings=settings, update_ranks={}, importance=None))
    small, large = device(choices.needed_bytes(1), 1e14), device(ROOM, 1e14)
    made = plan(COSTS, {0: small, 1: large}, device(ROOM, 1e9), settings=settings).clients
    assert [made[client].binds for client in (0, 1)] == ["memory", "method"]


def test_who_has_room_only_without_the_highest_ranks_lacks_what_is_said() -> None:
    settings = PlanSettings(checkpointing=True)
    tables = Tables(costs=COSTS, settings=settings, update_ranks={}, importance=None)
    choices, worker = CutChoices(tables), device(ROOM, 1e14)
    # All wait for another, so that time is nobody's reason.
    slow, found = device(ROOM, 1e7), set()
    for cut in range(1, settings.deepest_cut(COSTS.num_blocks)):
        for share in (0.8, 0.9, 0.95, 0.99):
            profile = device(share * tables.highest_rank_bytes[cut + 1], 1e14)
            if profile.memory_bytes < choices.least_bytes:
                continue
            part = plan(COSTS, {0: profile, 1: slow}, worker, settings=settings).clients[0]
            if "highest ranks" in part.why:
                assert choices.roomy_bytes(part.cut + 1, profile) > profile.memory_bytes
                found.add(part.cut)
    assert found
