"""A round of a method that adds up its clients' changes exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..adapters import LowRank, UpdateSum, initial_update
from ..aggregation import (
    ClientUpdate,
    aggregate_adapters,
    change,
    check_clients,
    next_velocity,
)
from ..settings import Aggregation
from ..types import Start
from .state import ClientResult, MethodState


def exact_sum(
    state: MethodState,
    results: Mapping[int, ClientResult],
    *,
    start: Start,
    options: Aggregation,
) -> MethodState:
    """The state after a round: the mean of all changes added, and what fits of the sum sent.

    Parameters
    ----------
    state
        Before the round.
    results
        By client.
    start
        What they started from, and so what is taken off what they trained.
    options
        Of the aggregation.
    """
    clients = [as_client_update(result, state, start) for result in results.values()]
    if not options.is_bounded:
        updates = aggregate_adapters(
            state.updates, clients, carried=_carried(state, options), dividing=options.dividing
        )
        moves = _velocities(state, clients, options)
        return MethodState(updates=updates, velocities=moves, importance=state.importance)
    check_clients(clients, state.updates)
    moves = _velocities(state, clients, options)
    sums = {
        name: state.sum_of(name).plus(
            *([moves[name]] if moves else _change(state, name, clients, options))
        )
        for name in state.updates
    }
    return replace(state, velocities=moves).with_sums(sums, options)


def as_client_update(result: ClientResult, state: MethodState, start: Start) -> ClientUpdate:
    """What a client has trained, with what it started from."""
    return ClientUpdate(
        num_examples=result.num_examples,
        trained=result.updates,
        initial={
            name: initial_update(state.updates[name], factors.rank, start)
            for name, factors in result.updates.items()
        },
        kept=result.kept,
    )


def _change(
    state: MethodState, name: str, clients: Sequence[ClientUpdate], options: Aggregation
) -> list[LowRank]:
    update = state.updates[name]
    contributions = [client.contribution(name, update) for client in clients]
    return change(update, contributions, dividing=options.dividing)


def _velocities(
    state: MethodState, clients: Sequence[ClientUpdate], options: Aggregation
) -> dict[str, UpdateSum]:
    """How far the round goes with each weight, where the next one is to go a share of it again."""
    if not options.momentum:
        return {}
    return {
        name: next_velocity(
            state.velocity_of(name), _change(state, name, clients, options), beta=options.momentum
        )
        for name in state.updates
    }


def _carried(state: MethodState, options: Aggregation) -> dict[str, LowRank]:
    """What a whole adapter gets besides its clients' changes: momentum, and what was held back."""
    carried = {}
    for name, update in state.updates.items():
        terms: list[UpdateSum | LowRank] = []
        if options.momentum and name in state.velocities:
            terms.append(state.velocities[name].scale(options.momentum))
        if name in state.sums:
            terms += [state.sums[name], -update]
        if not terms:
            continue
        total = UpdateSum(content=update.head(0)).plus(*terms).canonical()
        if total.rank:
            carried[name] = total
    return carried
