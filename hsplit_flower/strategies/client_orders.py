"""What one client is told to do: its session's settings, and the order that goes with them."""

import hashlib

from ..transport.orders import Order
from ..types import ClientPlan, SessionSpec
from .roster import Member
from .training import Training


def session_spec(
    training: Training,
    part: ClientPlan,
    *,
    node: int,
    member: Member,
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
        scale=training.scale,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        seed=mixed_seed(training.seed, server_round, node, member),
        wire_type=training.hidden_type,
        wire_gradient_type=training.wire_gradient_type,
        in_flight=training.in_flight,
        train=train,
    )


def order(
    training: Training,
    spec: SessionSpec,
    *,
    model: str,
    address: str,
    token: str,
    member: Member,
    server_round: int,
    predicted_bytes: float = 0.0,
    budget_bytes: float = 0.0,
    lease_gpu_fraction: float = 0.0,
    checkpointing: bool = False,
) -> Order:
    """The order that sends a client to its session."""
    return Order(
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
        session=spec,
        checkpointing=checkpointing,
        micro_batch_size=training.micro_batch_size,
        cached_halves=training.cached_halves,
    )


def mixed_seed(seed: int, server_round: int, node: int, member: Member) -> int:
    """Another seed for each client and round, the same whenever they come again.

    Node ids differ from run to run; a client that says which partition it has is known by that.
    """
    client = node if member.partition is None else member.partition
    digest = hashlib.sha256(f"{seed}/{server_round}/{client}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
