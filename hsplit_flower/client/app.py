"""Three functions that make any ``ClientApp`` an HSplitLoRA client.

    @app.query()
    def query(msg, context):
        return describe_device(msg, context, num_examples=len(my_examples))

    @app.train()
    def train(msg, context):
        return split_train(msg, context, my_batches)

    @app.evaluate()
    def evaluate(msg, context):
        return split_evaluate(msg, context, my_batches)

``my_batches`` is any iterable of mappings with ``input_ids``, ``attention_mask`` and ``labels``. A
client that cannot do its part answers with an error that says why; the strategy leaves it out.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode

from ..adapters import LowRank, from_state_dict, to_state_dict
from ..devices import machine_profile, profile_from_node_config
from ..devices.memory_budget import MemoryMeter, within_budget
from ..errors import ConfigError, DataError, HSplitError
from ..simulation.lease import leased
from ..splitting import Half, Parts, load_half
from ..transport.channel import ChannelSettings
from ..transport.grpc_stream import GrpcStream
from ..types import DeviceProfile, Labels
from ..wire.error_text import write_error
from ..wire.instructions import (
    IMPORTANCE_KEY,
    INSTRUCTIONS_KEY,
    METRICS_KEY,
    PROFILE_KEY,
    QUERY_KEY,
    UPDATE_KEY,
    Instructions,
)
from .batch import Batch, checked
from .half_cache import HalfCache, HalfKey
from .local_round import LocalRound, Outcome

logger = logging.getLogger(__name__)

HALVES = HalfCache()
"""What this process keeps between messages."""

Batches = Iterable[Mapping[str, Any]]


def describe_device(msg: Message, context: Context, num_examples: int) -> Message:
    """Answer a query with what this device has and how many examples it trains on.

    The node's configuration says what the device may give (``memory-gb``, ``flops``, ``up-mbps``,
    ``down-mbps``, ``rtt-ms``); what it does not say is taken from the machine.

    Parameters
    ----------
    msg, context
        As Flower hands them to the app.
    num_examples
        Training examples of this client: its weight in the aggregation.
    """

    def describe() -> RecordDict:
        if num_examples < 1:
            raise DataError("this client's partition is empty: one example or more is wanted")
        asked = msg.content.config_records.get(QUERY_KEY, ConfigRecord())
        dtype = str(asked.get("dtype", "float32"))
        return RecordDict({PROFILE_KEY: _description(context, num_examples, dtype)})

    return _answer(msg, describe)


def split_train(msg: Message, context: Context, batches: Batches) -> Message:
    """Train this client's half for one round, one step a batch.

    Parameters
    ----------
    msg, context
        As Flower hands them to the app.
    batches
        The user's own batches; as many as the client is to take steps.
    """

    def train() -> RecordDict:
        order = _instructions_of(msg)
        # As the device is before the half is loaded: the next plan is made for this.
        device = _description(context, order.num_examples, order.dtype)
        outcome = _run(order, msg, context, batches)
        scores = outcome.importance
        return RecordDict(
            {
                UPDATE_KEY: ArrayRecord(to_state_dict(outcome.updates)),
                METRICS_KEY: _metrics(order, outcome),
                PROFILE_KEY: device,
                IMPORTANCE_KEY: ConfigRecord(
                    {"weights": list(scores), "scores": [float(score) for score in scores.values()]}
                ),
            }
        )

    return _answer(msg, train)


def split_evaluate(msg: Message, context: Context, batches: Batches) -> Message:
    """Evaluate the global model on this client's own examples, its half here, the rest there.

    Parameters
    ----------
    msg, context
        As Flower hands them to the app.
    batches
        The user's own held-out batches.
    """

    def evaluate() -> RecordDict:
        order = _instructions_of(msg)
        outcome = _run(order, msg, context, batches)
        return RecordDict({METRICS_KEY: _metrics(order, outcome)})

    return _answer(msg, evaluate)


def _description(context: Context, num_examples: int, dtype: str) -> ConfigRecord:
    """What this device has now: what its node config says, and the machine for the rest."""
    profile = profile_from_node_config(context.node_config, _machine(dtype))
    values: dict[str, Any] = {"num-examples": num_examples}
    for field in fields(DeviceProfile):
        values[field.name.replace("_", "-")] = float(getattr(profile, field.name))
    for key in ("partition-id", "num-partitions"):
        if key in context.node_config:
            values[key] = context.node_config[key]
    return ConfigRecord(values)


def _machine(dtype: str) -> DeviceProfile:
    """The machine as it is without the halves that are kept.

    They make way for what is planned, but for what a run without budgets is told to keep.
    """
    profile = machine_profile(dtype=_floating(dtype))
    kept_bytes = HALVES.held_bytes("cuda" if torch.cuda.is_available() else "cpu")
    return replace(profile, memory_bytes=profile.memory_bytes + kept_bytes)


def _floating(name: str) -> torch.dtype:
    """A type that a model may have, by its name in torch."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ConfigError(f"dtype is {name!r}: a floating-point type of torch is wanted")
    return dtype


def _run(order: Instructions, msg: Message, context: Context, batches: Batches) -> Outcome:
    """The round inside its lease of a card, if it has one, and inside its memory budget."""
    with ExitStack() as stack:
        device = stack.enter_context(
            leased(
                order.lease_gpu_fraction,
                card_bytes=order.lease_card_bytes,
                # Others may hold the cards for most of the round.
                timeout_seconds=order.session.round_timeout_seconds,
            )
        )
        key = _half_of(order, context, device)
        # Before it is measured what is held.
        HALVES.make_room(key, _capacity(order))
        meter = stack.enter_context(
            within_budget(order.budget_bytes, predicted_bytes=order.predicted_bytes, device=device)
        )
        return _run_half(order, msg, batches, key, meter)


def _half_of(order: Instructions, context: Context, device: str) -> HalfKey:
    spec = order.session
    return HalfKey(
        model=str(context.node_config.get("model", order.model)),
        parts=Parts.of_client(spec.cut, keeps_labels=spec.labels is Labels.CLIENT),
        revision=order.revision or None,
        dtype=_floating(order.dtype),
        device=device,
        attention=order.attention or None,
    )


def _capacity(order: Instructions) -> int:
    """How many halves this process keeps, the order's own among them."""
    if order.lease_gpu_fraction:
        # What lies on a leased card goes with the lease.
        return 0
    # A budget is for one half: others would count against it.
    return min(order.cached_halves, 1) if order.budget_bytes else order.cached_halves


def _run_half(
    order: Instructions, msg: Message, batches: Batches, key: HalfKey, meter: MemoryMeter
) -> Outcome:
    spec = order.session
    with ExitStack() as stack:
        loan = stack.enter_context(HALVES.lend(key, lambda: _load(key), capacity=_capacity(order)))
        half = loan.half
        half.checkpointing = order.checkpointing
        meter.adopt([*half.model.parameters(), *half.model.buffers()])
        stream = stack.enter_context(closing(_connect(order)))
        with meter.setting_up():
            local_round = LocalRound(
                half, _update_in(msg, meter), spec, stream, meter, order.micro_batch_size
            )
        ready: Iterable[Batch] = checked(batches, half.architecture, is_training=spec.train)
        if spec.train:
            outcome = local_round.train(ready, probe=order.probe)
        else:
            outcome = local_round.evaluate(ready)
        loan.is_as_loaded = local_round.release_half()
        return outcome


def _load(key: HalfKey) -> Half:
    return load_half(
        key.model,
        key.parts,
        revision=key.revision,
        dtype=key.dtype,
        device=key.device,
        attention=key.attention,
    )


def _connect(order: Instructions) -> GrpcStream:
    spec = order.session
    settings = ChannelSettings(
        max_message_bytes=order.max_message_bytes, step_timeout_seconds=order.step_timeout_seconds
    )
    return GrpcStream(order.address, order.token, spec.wire_type, settings, spec.wire_gradient_type)


def _update_in(msg: Message, meter: MemoryMeter) -> dict[str, LowRank]:
    """The global update below the cut, taken out of the message: the round is to hold it alone."""
    records = list(msg.content.array_records.values())
    if len(records) != 1:
        raise DataError(
            f"the message has {len(records)} array records: one is wanted, the global adapter"
        )
    state = records[0].to_torch_state_dict(keep_input=False)
    meter.adopt(state.values())
    return from_state_dict(state)


def _instructions_of(msg: Message) -> Instructions:
    try:
        return Instructions.from_config(msg.content.config_records[INSTRUCTIONS_KEY])
    except KeyError:
        raise DataError(
            f"the message has no {INSTRUCTIONS_KEY!r} record: the server's strategy must "
            "be one of hsplit_flower, such as HSplitLoRA"
        ) from None


def _metrics(order: Instructions, outcome: Outcome) -> MetricRecord:
    return MetricRecord(
        {
            "num-examples": order.num_examples,
            "loss-sum": outcome.loss.loss_sum,
            "num-tokens": outcome.loss.num_tokens,
            "num-steps": outcome.num_steps,
            "num-batch-tokens": outcome.num_batch_tokens,
            "seconds": outcome.seconds,
            "peak-bytes": outcome.peak_bytes,
        }
    )


def _answer(msg: Message, make: Callable[[], RecordDict]) -> Message:
    """The reply, or an error with the reason where the client cannot do its part."""
    try:
        return Message(make(), reply_to=msg)
    except HSplitError as error:
        logger.warning("this client cannot do its part: %s", error)
        refusal = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, write_error(error))
        return Message(refusal, reply_to=msg)
