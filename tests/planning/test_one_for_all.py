"""One cut and one rank for all: what the weakest holds, and no less than everybody could have."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.costs import client_memory, session_rank_bytes, whole_model_memory, worker_memory
from hsplit_flower.errors import InfeasibleBudgetError
from hsplit_flower.planning import ClientOptions, WorkerOptions, plan
from hsplit_flower.planning.choices import CutChoices
from hsplit_flower.planning.cuts import choose_one_cut, makespan
from hsplit_flower.planning.tables import Tables
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import DeviceProfile, Plan
from tests.planning.planned import ROOM, costs_of, device

COSTS = costs_of("llama")
ALLOWED = PlanSettings(max_rank=8, rank_unit=2)


def _settings(**changes: object) -> PlanSettings:
    return ALLOWED.replace(one_cut=True, one_rank=True, makespan_slack=0.0, **changes)


def _whole(chosen: PlanSettings) -> float:
    return whole_model_memory(COSTS, rank=8, settings=chosen).total_bytes


def _ranks(made: Plan) -> set[int]:
    return {rank for part in made.clients.values() for rank in part.ranks.values()}


def _needed(cut: int, rank: int, chosen: PlanSettings, *, checkpointing: bool) -> float:
    below = {weight.name: rank for weight in COSTS.weights if weight.block < cut}
    return client_memory(
        COSTS, cut=cut, ranks=below, settings=chosen, checkpointing=checkpointing
    ).total_bytes


FLEETS = st.lists(st.tuples(st.floats(0.3, 1.3), st.floats(1e6, 1e9)), min_size=1, max_size=5)


@settings(deadline=None, max_examples=40)
@given(FLEETS, st.floats(1e6, 1e9), st.floats(2.0, 20.0), st.booleans())
def test_all_have_the_same_and_everything_fits(
    fleet: list[tuple[float, float]],
    speed: float,
    worker_share: float,
    may_recompute: bool,
) -> None:
    chosen = _settings(checkpointing=may_recompute)
    whole = _whole(chosen)
    profiles = {n: device(share * whole, flops) for n, (share, flops) in enumerate(fleet)}
    worker = device(worker_share * whole, speed)
    try:
        made = plan(COSTS, profiles, worker, settings=chosen)
    except InfeasibleBudgetError:
        return
    assert len({part.cut for part in made.clients.values()}) == 1
    (rank,) = _ranks(made)
    assert rank in chosen.allowed_ranks[1:]
    for client, part in made.clients.items():
        assert part.ranks.keys() == {weight.name for weight in COSTS.weights}
        assert part.memory.total_bytes <= profiles[client].memory_bytes
        assert part.memory.total_bytes == _needed(
            part.cut, rank, chosen, checkpointing=part.checkpointing
        )
    sessions = [(part.cut, part.ranks) for part in made.clients.values()]
    needed = worker_memory(COSTS, sessions=sessions, settings=chosen)
    assert needed.total_bytes <= worker.memory_bytes


def _best_makespan(profiles: dict[int, DeviceProfile], worker: DeviceProfile) -> float:
    """By trying every cut that all of them hold."""
    chosen = _settings(checkpointing=False)
    tables = Tables(costs=COSTS, settings=chosen, update_ranks={}, importance=None)
    choices = CutChoices(tables)
    options = {client: choices.options(profile) for client, profile in profiles.items()}
    there = tables.worker_options(worker)
    tried = []
    for cut in range(1, COSTS.num_blocks):
        # As the planner's tables bound it: a cut's own peak may be some percent lower.
        needed = choices.needed_bytes(cut)
        held = all(needed <= profile.memory_bytes for profile in profiles.values())
        beside = there.base_bytes[cut] + len(profiles) * there.session_bytes[cut]
        if held and beside <= worker.memory_bytes:
            slowest = max(own.seconds[cut] for own in options.values())
            tried.append(max(slowest, len(profiles) * there.seconds[cut]))
    return min(tried)


@settings(deadline=None, max_examples=40)
@given(FLEETS, st.floats(1e6, 1e10))
def test_the_cut_has_the_smallest_makespan_of_all_that_fit(
    fleet: list[tuple[float, float]], speed: float
) -> None:
    chosen = _settings(checkpointing=False)
    whole = _whole(chosen)
    profiles = {n: device(share * whole, flops) for n, (share, flops) in enumerate(fleet)}
    worker = device(ROOM, speed)
    try:
        made = plan(COSTS, profiles, worker, settings=chosen)
    except InfeasibleBudgetError:
        return
    served = {client: profiles[client] for client in made.clients}
    tables = Tables(costs=COSTS, settings=chosen, update_ranks={}, importance=None)
    choices = CutChoices(tables)
    options = {client: choices.options(profile) for client, profile in served.items()}
    cuts = {client: part.cut for client, part in made.clients.items()}
    got = makespan(cuts, options, tables.worker_options(worker))
    assert got == pytest.approx(_best_makespan(served, worker), rel=1e-12)


@st.composite
def _options(draw: st.DrawFn) -> tuple[dict[int, ClientOptions], WorkerOptions]:
    """What three blocks could cost, in whole numbers, of which many are equal."""
    numbers = st.lists(st.integers(0, 9), min_size=4, max_size=4)
    clients = {}
    for client in range(draw(st.integers(1, 4))):
        deepest = draw(st.integers(1, 3))
        clients[client] = ClientOptions(
            seconds=sorted(map(float, draw(numbers))),
            deepest=deepest,
            roomy=draw(st.integers(1, deepest)),
        )
    falling = [sorted(map(float, draw(numbers)), reverse=True) for _ in range(3)]
    return clients, WorkerOptions(
        seconds=falling[0],
        base_bytes=falling[1],
        session_bytes=falling[2],
        budget_bytes=float(draw(st.integers(0, 50))),
        round_share=draw(st.sampled_from([1.0, 0.5])),
    )


@given(_options(), st.sampled_from([0.0, 0.3]))
def test_one_cut_is_the_best_of_all_that_everybody_holds(
    given_: tuple[dict[int, ClientOptions], WorkerOptions], slack: float
) -> None:
    clients, worker = given_
    fitting = {}
    for cut in range(1, min(own.deepest for own in clients.values()) + 1):
        sessions = worker.round_share * len(clients) * worker.session_bytes[cut]
        if worker.base_bytes[cut] + sessions <= worker.budget_bytes:
            load = worker.round_share * len(clients) * worker.seconds[cut]
            fitting[cut] = max(load, *(own.seconds[cut] for own in clients.values()))
    if not fitting:
        with pytest.raises(InfeasibleBudgetError, match="the split worker has"):
            choose_one_cut(clients, worker, slack=slack)
        return
    (cut,) = set(choose_one_cut(clients, worker, slack=slack).values())
    limit = min(fitting.values()) * (1.0 + slack)
    within = [each for each, span in fitting.items() if span <= limit]
    roomy = [each for each in within if all(each <= own.roomy for own in clients.values())]
    assert cut in within
    assert cut == max(roomy or within[-1:])


def test_nobody_needs_no_cut() -> None:
    nothing = WorkerOptions(seconds=[], base_bytes=[], session_bytes=[], budget_bytes=0.0)
    assert choose_one_cut({}, nothing) == {}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.3, 1.3), min_size=1, max_size=4), st.floats(1.0, 9.0))
def test_the_rank_is_the_highest_that_everybody_holds(
    shares: list[float], granted_rank: float
) -> None:
    """On the client's side, and in what the worker grants a session."""
    chosen = _settings(checkpointing=False)
    per_rank = sum(session_rank_bytes(COSTS, w, 0, start=chosen.start) for w in COSTS.weights)
    chosen = chosen.replace(worker_session_bytes=2 * granted_rank * per_rank)
    whole = _whole(chosen)
    profiles = {n: device(share * whole) for n, share in enumerate(shares)}
    try:
        made = plan(COSTS, profiles, device(ROOM), settings=chosen)
    except InfeasibleBudgetError:
        return
    (cut,) = {part.cut for part in made.clients.values()}
    least = min(profiles[client].memory_bytes for client in made.clients)
    above = [weight for weight in COSTS.weights if weight.block >= cut]
    session = sum(session_rank_bytes(COSTS, w, 0, start=chosen.start) for w in above)
    tables = Tables(costs=COSTS, settings=chosen, update_ranks={}, importance=None)
    fitting = [
        rank
        for rank in chosen.allowed_ranks
        if tables.uniform_rank_bytes(rank)[cut] <= least
        and rank * session <= chosen.worker_session_bytes
    ]
    assert _ranks(made) == {max(fitting)}


@pytest.mark.parametrize("scores", ["equal", "unequal"])
def test_importance_makes_no_difference_to_one_rank(scores: str) -> None:
    chosen = _settings(checkpointing=False)
    profiles = {1: device(0.5 * _whole(chosen)), 2: device(0.7 * _whole(chosen))}
    unequal = {weight.name: float(number) for number, weight in enumerate(COSTS.weights)}
    importance = unequal if scores == "unequal" else dict.fromkeys(unequal, 1.0)
    told = plan(COSTS, profiles, device(ROOM, 1e6), settings=chosen, importance=importance)
    assert told == plan(COSTS, profiles, device(ROOM, 1e6), settings=chosen)
