"""What each client is instructed to do in a round: its session's settings, and what goes along."""

import hashlib
from collections.abc import Collection, Mapping
from functools import partial

from ..errors import ConfigError
from ..methods import Method
from ..names import NUMBERED, ClientNames
from ..settings import RunSettings, SessionSpec
from ..settings.learning_rate import Schedule
from ..simulation.lease import gpu_fractions
from ..types import ClientInfo, ClientPlan, Start
from ..wire.instructions import Instructions, WholeTraining

SERVER_APP_SECONDS, POOL_SECONDS = 120.0, 10.0
FIRST_SECONDS = 120.0
"""Its address may be wrong for clients, which is to be found out in one round."""


def instructions_for(
    settings: RunSettings,
    method: Method,
    parts: Mapping[int, ClientPlan],
    clients: Mapping[int, ClientInfo],
    *,
    server_round: int,
    num_rounds: int,
    train: bool,
    budgets_bytes: Mapping[int, float],
    names: ClientNames = NUMBERED,
) -> dict[int, Instructions]:
    """A round's instructions by client, but for where each one's session is.

    Parameters
    ----------
    settings, method
        Of the run.
    parts, clients
        What each client is planned to do, and what is known of it.
    server_round, num_rounds, train
        Which round it is of how many, and whether it trains.
    budgets_bytes, names
        What each client has, and what it is called.

    Raises
    ------
    ConfigError
        Naming everyone whose lease no card can give.
    """
    leases = _leases(settings, {names.of(node): own for node, own in budgets_bytes.items()})
    spec_of = partial(
        session_spec,
        settings,
        method,
        server_round=server_round,
        num_rounds=num_rounds,
        train=train,
    )
    instructions = {}
    for node, part in parts.items():
        spec = spec_of(part, node=node, client=clients[node], name=names.of(node))
        instructions[node] = instructions_of(
            settings, method, spec, part, clients[node], server_round=server_round
        ).replace(
            budget_bytes=budgets_bytes[node] if settings.client.enforce_budgets else 0.0,
            lease_gpu_fraction=leases.get(names.of(node), 0.0),
            lease_card_bytes=settings.lease_card_bytes or 0.0,
        )
    return instructions


def _leases(settings: RunSettings, budgets_bytes: Mapping[str, float]) -> dict[str, float]:
    """The part of a card for every client, where any are leased."""
    card_bytes = settings.lease_card_bytes
    return gpu_fractions(budgets_bytes, card_bytes) if card_bytes else {}


def instructions_of(
    settings: RunSettings,
    method: Method,
    spec: SessionSpec,
    part: ClientPlan,
    client: ClientInfo,
    *,
    server_round: int,
) -> Instructions:
    """What settings, method and plan make of one client's instructions, without any limit."""
    return Instructions(
        server_round=server_round,
        num_examples=client.num_examples,
        model=settings.model,
        link=settings.link.replace(patience_seconds=_patience_seconds(settings, spec)),
        first_patience_seconds=FIRST_SECONDS if settings.link.patience_seconds is None else 0.0,
        session=spec,
        whole=whole_training(method),
        probe=spec.train and method.is_split,
        checkpointing=part.checkpointing,
        micro_batch_size=settings.training.micro_batch_size,
        cached_halves=settings.client.cached_halves,
        predicted_bytes=part.memory.total_bytes,
    )


def session_spec(
    settings: RunSettings,
    method: Method,
    part: ClientPlan,
    *,
    node: int,
    client: ClientInfo,
    name: str = "",
    server_round: int,
    num_rounds: int = 1,
    train: bool,
) -> SessionSpec:
    """The session that a client's part of the plan asks for: the run's fields, and its own.

    Raises
    ------
    ConfigError
        If the learning rate follows its steps, and it does not say how many it takes.
    """
    training = settings.training
    if train and training.follows_steps and not client.num_steps:
        raise ConfigError(
            f"training.schedule goes by steps, and client {name or node} does not say how many it "
            "takes in a round: say it in the ClientApp, describe_device(..., num_steps=10), or set "
            'training.schedule-over = "by-round"'
        )
    run = {**training.given(), **settings.link.given()}
    shared = {name: value for name, value in run.items() if name in SessionSpec.model_fields}
    shared["wire_type"] = settings.hidden_type
    own = _identity(node, client)
    drawn_by = "all" if method.shares_draw(training.start) else own
    shared["seed"] = mixed_seed(training.seed, server_round, drawn_by)
    shared["dropout_seed"] = mixed_seed(training.seed, server_round, f"dropout/{own}")
    return SessionSpec(
        **shared,
        client=node,
        client_name=name,
        cut=part.cut,
        ranks=dict(part.ranks),
        server_round=server_round,
        num_rounds=num_rounds,
        num_steps=client.num_steps,
        max_tokens=training.batch_size * training.sequence_length,
        shares_adapters=method.shares_server_adapter,
        # Who trains nothing evaluates all of it.
        truncates=method.truncates and train,
        train=train,
    )


def personal(told: Instructions, names: Collection[str], *, steps: int) -> Instructions:
    """The same for an adapter of the client's own, on top of the global one, which stays as it is.

    Training starts from fresh factors of the weights below the cut, at one learning rate; above it
    nothing is trained. Evaluation has the client add what it keeps.

    Parameters
    ----------
    told
        As for a round.
    names
        The weights below the client's cut.
    steps
        How many the client takes.
    """
    spec = told.session
    own = {name: rank if name in names else 0 for name, rank in spec.ranks.items()}
    return told.replace(
        personal_steps=steps,
        probe=False,
        session=spec.replace(
            ranks=own,
            num_steps=steps,
            start=Start.RESTART,
            schedule=Schedule.CONSTANT,
            warmup_steps=0.0,
            shares_adapters=False,
            truncates=False,
        ),
    )


def whole_training(method: Method) -> WholeTraining:
    """What a client that has the whole model must know of the method."""
    if method.is_split:
        return WholeTraining()
    told = WholeTraining(
        is_whole=True, trains_weights=not method.has_adapters, merges=method.merges
    )
    if method.pruning is None:
        return told
    return told.replace(tail_decay=method.pruning.decay, tail_penalty=method.pruning.penalty)


def mixed_seed(seed: int, server_round: int, client: int | str) -> int:
    """Another seed for each client and round, the same whenever they come again."""
    digest = hashlib.sha256(f"{seed}/{server_round}/{client}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _identity(node: int, client: ClientInfo) -> int:
    """By its partition where it says one: node ids differ from run to run."""
    return node if client.partition is None else client.partition


def _patience_seconds(settings: RunSettings, spec: SessionSpec) -> float:
    """How long a client tries a worker that is silent.

    One that runs alone may come back as long as the round lasts. Nobody comes back where it ends
    with the ServerApp; and a pool's clients are sent to another one, for which they must give up.
    """
    if settings.link.patience_seconds is not None:
        return settings.link.patience_seconds
    if gives_way(settings):
        return POOL_SECONDS
    return spec.round_timeout_seconds if settings.worker.address else SERVER_APP_SECONDS


def gives_way(settings: RunSettings) -> bool:
    """Whether clients give a silent worker up soon, for another of its pool to take over."""
    is_pool = settings.worker.placement == "ray" and not settings.worker.address
    return is_pool and settings.link.patience_seconds is None
