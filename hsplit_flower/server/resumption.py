"""A run that goes on from the state that another process left."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from logging import INFO
from typing import TypeVar

from flwr.app import ArrayRecord, MetricRecord
from flwr.common.logger import log
from flwr.serverapp.strategy import Result

from ..errors import CodecError, ConfigError
from ..names import ClientNames
from ..splitting import Architecture
from ..splitting.base_digest import BaseDigest, difference
from ..types import ClientInfo
from ..wire.base_text import base_from_text
from .client_registry import ClientRegistry
from .memory_corrections import MemoryCorrections
from .state import RunState

Value = TypeVar("Value")
Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]


def check_resumable(state: RunState, architecture: Architecture, *, num_rounds: int) -> None:
    """Refuse a state of another model, or of a run that has all its rounds.

    Raises
    ------
    ConfigError
        What is in the state, what was wanted, and what to change.
    """
    shapes = {w.name: (w.out_features, w.in_features) for w in architecture.weights}
    kept = {
        name: (update.out_features, update.in_features)
        for name, update in state.method.updates.items()
    }
    if kept != shapes:
        strange = sorted(name for name in {*kept, *shapes} if kept.get(name) != shapes.get(name))
        raise ConfigError(
            f"the state that is to go on is of another model: {strange[0]!r} is "
            f"{kept.get(strange[0], 'missing')} in it and "
            f"{shapes.get(strange[0], 'missing')} in the model; name the model of that run"
        )
    if state.server_round >= num_rounds:
        raise ConfigError(
            f"the state that is to go on is of round {state.server_round}, and {num_rounds} rounds "
            "are wanted in all: nothing is left to do; ask for more rounds"
        )


def check_same_base(state: RunState, base: BaseDigest, *, model: str) -> None:
    """Refuse to go on on another base than the state was learnt on, as far as both are known.

    Parameters
    ----------
    state
        As it was left.
    base
        What worker and server have now.
    model
        What it is called.

    Raises
    ------
    ConfigError
        What is other, and what to change.
    """
    try:
        found = difference(base, base_from_text(state.base))
    except CodecError as error:
        raise ConfigError(f"what the state says of its base cannot be read: {error}") from error
    if found:
        raise ConfigError(
            f"{model!r} is another base than when the run began: {found}; put the one of then "
            "there again, or begin a new run"
        )


def reunited(state: RunState, clients: ClientRegistry) -> RunState:
    """The state with the ids that its clients have now.

    A node may come back under another id. Who it is says what it calls itself, or else its
    partition, where one client alone had that then and one alone has it now.

    Parameters
    ----------
    state
        As it was left.
    clients
        Who is there, as they were asked now.
    """
    ids: dict[int, int] = {}
    # What it calls itself says more than the partition, which another may have now.
    for mark in (_partition, _name):
        before, now = _by_mark(state.clients, mark), _by_mark(clients, mark)
        found = {before[own]: now[own] for own in before.keys() & now.keys()}
        taken = set(found.values())
        ids = {node: other for node, other in ids.items() if other not in taken} | found
    ids = {node: other for node, other in ids.items() if node not in clients.known}
    if ids:
        log(INFO, "%s clients have come back under other ids", len(ids))
    return renamed(state, ids)


def renamed(state: RunState, ids: Mapping[int, int]) -> RunState:
    """The state with other node ids; who has none in ``ids`` keeps its own."""
    method, standing, devices = state.method, state.standing, state.devices
    if standing is not None:
        plan = replace(
            standing.plan,
            clients=_keyed(standing.plan.clients, ids),
            left_out=_keyed(standing.plan.left_out, ids),
        )
        standing = replace(standing, plan=plan, profiles=_keyed(standing.profiles, ids))
    return replace(
        state,
        method=replace(method, client_ranks=_keyed(method.client_ranks, ids)),
        standing=standing,
        corrections=MemoryCorrections(by_client=_keyed(state.corrections.by_client, ids)),
        clients=ClientRegistry(
            known=_keyed(state.clients.known, ids),
            unanswered=_keyed(state.clients.unanswered, ids),
            names=ClientNames(by_client=_keyed(state.clients.names.by_client, ids)),
        ),
        devices=replace(
            devices, profiles=_keyed(devices.profiles, ids), away=_members(devices.away, ids)
        ),
        left_out=_keyed(state.left_out, ids),
        failed=_members(state.failed, ids),
    )


def _keyed(values: Mapping[int, Value], ids: Mapping[int, int]) -> dict[int, Value]:
    return {ids.get(node, node): value for node, value in values.items()}


def _members(nodes: frozenset[int], ids: Mapping[int, int]) -> frozenset[int]:
    return frozenset(ids.get(node, node) for node in nodes)


Mark = Callable[[ClientInfo], str | None]
"""By what a client may be known again; None where it does not say it."""


def _partition(client: ClientInfo) -> str | None:
    return None if client.partition is None else str(client.partition)


def _name(client: ClientInfo) -> str | None:
    return client.name or None


def _by_mark(clients: ClientRegistry, mark: Mark) -> dict[str, int]:
    """The node of each mark that one alone has."""
    found: dict[str, list[int]] = {}
    for node, info in clients.known.items():
        if (own := mark(info)) is not None:
            found.setdefault(own, []).append(node)
    return {own: nodes[0] for own, nodes in found.items() if len(nodes) == 1}


def renumbered(evaluate: Evaluate, rounds_before: int) -> Evaluate:
    """An evaluation that is told the number of the round in the whole run."""
    return lambda server_round, arrays: evaluate(server_round + rounds_before, arrays)


def renumbered_result(result: Result, rounds_before: int) -> Result:
    """A result whose metrics stand under the numbers that their rounds have in the whole run."""

    def moved(metrics: dict[int, MetricRecord]) -> dict[int, MetricRecord]:
        return {number + rounds_before: record for number, record in metrics.items()}

    return Result(
        arrays=result.arrays,
        train_metrics_clientapp=moved(result.train_metrics_clientapp),
        evaluate_metrics_clientapp=moved(result.evaluate_metrics_clientapp),
        evaluate_metrics_serverapp=moved(result.evaluate_metrics_serverapp),
    )
