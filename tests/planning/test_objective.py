"""What a plan is worth: covered importance against seconds."""

import functools
import math

from hsplit_flower.planning import improvement, objective, plan, session_need_bytes
from hsplit_flower.settings import PlanSettings
from tests.planning.planned import ROOM, costs_of, device


def test_objective_prefers_better_ranks_and_faster_steps() -> None:
    costs = costs_of("llama")
    names = [weight.name for weight in costs.weights]
    importance = {name: 1.0 + index for index, name in enumerate(names)}
    profiles, worker = {0: device(ROOM, 1e8)}, device(ROOM, 1e12)
    chosen = PlanSettings(worker_session_bytes=session_need_bytes(costs, rank=1), max_rank=8)
    rate = functools.partial(
        objective,
        costs=costs,
        profiles=profiles,
        worker=worker,
        importance=importance,
        settings=chosen,
    )
    uniform = plan(costs, profiles, worker, settings=chosen)
    informed = plan(costs, profiles, worker, importance=importance, settings=chosen)
    assert rate(informed) > rate(uniform) > 0
    slower = {0: device(ROOM, 1e7)}
    assert rate(informed, profiles=slower) < rate(informed)
    assert rate(informed, profiles={}) == 0.0
    assert improvement(rate(uniform), rate(informed)) > 0
    assert improvement(2.0, 1.0) == -0.5
    assert improvement(0.0, 0.0) == 0.0
    assert improvement(0.0, 1.0) == math.inf
