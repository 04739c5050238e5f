"""Plans keep within every budget, and leave out only who does not hold the smallest cut."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.costs import client_memory, whole_model_memory, worker_memory
from hsplit_flower.errors import InfeasibleBudgetError
from hsplit_flower.planning import plan, planned_bytes
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import Labels, Start
from tests.planning.planned import ROOM, costs_of, device


@functools.cache
def whole_bytes(name: str, dtype_bytes: int) -> float:
    """What training the whole model takes: a size that budgets are shares of."""
    costs = costs_of(name, dtype_bytes)
    return whole_model_memory(costs, rank=16, settings=PlanSettings()).total_bytes


@pytest.fixture(autouse=True, scope="module")
def _traced() -> None:
    """Trace before hypothesis draws: building a model touches the random state."""
    for name in ("llama", "gpt2"):
        for dtype_bytes in (2, 4):
            whole_bytes(name, dtype_bytes)


@st.composite
def situations(draw: st.DrawFn) -> dict[str, object]:
    base = draw(st.sampled_from(["llama", "gpt2"])), draw(st.sampled_from([2, 4]))
    costs = costs_of(*base)
    chosen = PlanSettings(
        labels=draw(st.sampled_from(list(Labels))),
        start=draw(st.sampled_from(list(Start))),
        target_modules=draw(
            st.sampled_from([None, ("q_proj", "down_proj")])
            if costs.model_type == "llama"
            else st.sampled_from([None, ("c_attn",)])
        ),
        min_cut=draw(st.integers(1, 2)),
        rank_unit=draw(st.sampled_from([1, 2, 4])),
        max_rank=draw(st.sampled_from([4, 16])),
        makespan_slack=draw(st.sampled_from([0.0, 0.05])),
        worker_session_bytes=draw(st.sampled_from([None, 0.0, 2e4])),
    )
    whole = whole_bytes(*base)
    shares = draw(st.lists(st.floats(0.05, 1.3), min_size=1, max_size=6))
    profiles = {
        7 * index: device(share * whole, draw(st.floats(1e6, 1e9)), draw(st.floats(1e4, 1e8)))
        for index, share in enumerate(shares)
    }
    names = [weight.name for weight in costs.weights]
    scored = draw(st.booleans())
    update = draw(st.sampled_from([0, 3, 40]))
    return {
        "costs": costs,
        "profiles": profiles,
        "worker": device(draw(st.floats(0.5, 20.0)) * whole, draw(st.floats(1e6, 1e10))),
        "importance": {n: draw(st.floats(0.0, 9.0)) for n in names} if scored else None,
        "settings": chosen,
        "update_ranks": dict.fromkeys(names, update) if update else {},
    }


@settings(deadline=None, max_examples=60)
@given(situations())
def test_no_prediction_exceeds_a_budget(situation: dict[str, object]) -> None:
    profiles, costs, chosen = (situation[key] for key in ("profiles", "costs", "settings"))
    updates, worker = situation["update_ranks"], situation["worker"]
    try:
        made = plan(**situation)
    except InfeasibleBudgetError as error:
        assert "lacks" in str(error)
        return
    assert made.clients.keys() | made.left_out.keys() == profiles.keys()
    assert not made.clients.keys() & made.left_out.keys()
    predicted = planned_bytes(made, costs, settings=chosen, update_ranks=updates)
    for client, part in made.clients.items():
        assert part.memory.total_bytes <= profiles[client].memory_bytes
        assert part.memory.total_bytes == pytest.approx(predicted[client])
        assert chosen.min_cut <= part.cut <= costs.num_blocks - 1
        assert set(part.ranks.values()) <= set(chosen.allowed_ranks)
        assert part.ranks.keys() == {w.name for w in costs.target_weights(chosen.target_modules)}
    sessions = [(part.cut, part.ranks) for part in made.clients.values()]
    needed = worker_memory(costs, sessions=sessions, settings=chosen, update_ranks=updates)
    assert needed.total_bytes <= worker.memory_bytes * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(situations())
def test_a_client_is_left_out_only_if_its_smallest_cut_does_not_fit(
    situation: dict[str, object],
) -> None:
    costs, chosen = situation["costs"], situation["settings"]
    ample = {**situation, "worker": device(ROOM)}
    try:
        made = plan(**ample)
    except InfeasibleBudgetError:
        return
    lowest = {w.name: chosen.rank_unit for w in costs.target_weights(chosen.target_modules)}
    least = min(
        client_memory(
            costs,
            cut=chosen.min_cut,
            ranks=lowest,
            settings=chosen,
            update_ranks=situation["update_ranks"],
            checkpointing=checkpointing,
        ).total_bytes
        for checkpointing in (False, True)
    )
    for client, shortfall in made.left_out.items():
        assert shortfall.budget_bytes == situation["profiles"][client].memory_bytes
        assert shortfall.lacking_bytes > 0
        assert shortfall.needed_bytes >= least
