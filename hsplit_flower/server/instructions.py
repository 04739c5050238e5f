"""What one client is told to do: its session's settings, and the order that goes with them."""

import hashlib
from collections.abc import Mapping

from ..settings.training import Training
from ..simulation.lease import gpu_fractions
from ..types import ClientInfo, ClientPlan, SessionSpec
from ..wire.instructions import Instructions


def instructions_for(
    training: Training,
    parts: Mapping[int, ClientPlan],
    members: Mapping[int, ClientInfo],
    *,
    model: str,
    server_round: int,
    train: bool,
    budgets_bytes: Mapping[int, float],
    enforce_budgets: bool,
    lease_card_bytes: float | None,
) -> dict[int, Instructions]:
    """A round's orders by client, but for where each one's session is.

    Parameters
    ----------
    training, model
        Of the run.
    parts, members
        What each client is planned to do, and what is known of it.
    server_round, train
        Which round it is, and whether it trains.
    budgets_bytes, enforce_budgets
        What each client has, and whether it is held to that.
    lease_card_bytes
        Memory of a card of which each leases the part that its budget is; None for no leases.

    Raises
    ------
    ConfigError
        Naming everyone whose lease no card can give.
    """
    leases = gpu_fractions(budgets_bytes, lease_card_bytes) if lease_card_bytes else {}
    orders = {}
    for node, part in parts.items():
        spec = session_spec(
            training,
            part,
            node=node,
            member=members[node],
            server_round=server_round,
            train=train,
        )
        orders[node] = order(
            training,
            spec,
            checkpointing=part.checkpointing,
            model=model,
            member=members[node],
            server_round=server_round,
            predicted_bytes=part.memory.total_bytes,
            budget_bytes=budgets_bytes[node] if enforce_budgets else 0.0,
            lease_gpu_fraction=leases.get(node, 0.0),
            lease_card_bytes=lease_card_bytes or 0.0,
        )
    return orders


def session_spec(
    training: Training,
    part: ClientPlan,
    *,
    node: int,
    member: ClientInfo,
    server_round: int,
    train: bool,
) -> SessionSpec:
    """The session that a client's part of the plan asks for."""
    return SessionSpec(
        client=node,
        cut=part.cut,
        ranks=part.ranks,
        labels=training.labels,
        start=training.start,
        lora_alpha=training.lora_alpha,
        scale_rule=training.scale_rule,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        seed=mixed_seed(training.seed, server_round, node, member),
        wire_type=training.hidden_type,
        wire_gradient_type=training.wire_gradient_type,
        in_flight=training.in_flight,
        max_tokens=training.batch_size * training.sequence_length,
        train=train,
    )


def order(
    training: Training,
    spec: SessionSpec,
    *,
    model: str,
    member: ClientInfo,
    server_round: int,
    address: str = "",
    token: str = "",
    predicted_bytes: float = 0.0,
    budget_bytes: float = 0.0,
    lease_gpu_fraction: float = 0.0,
    lease_card_bytes: float = 0.0,
    checkpointing: bool = False,
) -> Instructions:
    """The order that sends a client to its session, whose address and token may come later."""
    return Instructions(
        server_round=server_round,
        num_examples=member.num_examples,
        model=model,
        revision=training.revision,
        dtype=training.dtype,
        attention=training.attention,
        address=address,
        token=token,
        probe=spec.train,
        max_message_bytes=training.max_message_bytes,
        step_timeout_seconds=training.step_timeout_seconds,
        predicted_bytes=predicted_bytes,
        budget_bytes=budget_bytes,
        lease_gpu_fraction=lease_gpu_fraction,
        lease_card_bytes=lease_card_bytes,
        session=spec,
        checkpointing=checkpointing,
        micro_batch_size=training.micro_batch_size,
        cached_halves=training.cached_halves,
    )


def mixed_seed(seed: int, server_round: int, node: int, member: ClientInfo) -> int:
    """Another seed for each client and round, the same whenever they come again.

    Node ids differ from run to run; a client that says which partition it has is known by that.
    """
    client = node if member.partition is None else member.partition
    digest = hashlib.sha256(f"{seed}/{server_round}/{client}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
