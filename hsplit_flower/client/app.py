"""Functions that make any ``ClientApp`` a client of our methods.

    @app.query()
    def query(msg, context):
        return describe_device(msg, context, num_examples=len(my_examples))

    @app.train()
    def train(msg, context):
        return split_train(msg, context, my_batches)

    @app.evaluate()
    def evaluate(msg, context):
        return split_evaluate(msg, context, my_batches)

Where a method trains the whole model on each client, `federated_train` and `federated_evaluate`
take the place of the last two.

``my_batches`` is any iterable of mappings with ``input_ids``, ``attention_mask`` and ``labels``,
and ``position_ids`` where these are not the usual ones. With them the mask may be missing:
documents packed into one row are kept apart where positions begin anew. What the model does not
know is ignored, what it knows and is not carried over the cut is refused, a batch without a label
is passed over; each is said. A client that cannot do its part answers with an error that says why;
the strategy leaves it out.
"""

from dataclasses import fields
from functools import partial
from itertools import islice
from logging import INFO
from typing import Any

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from torch import Tensor

from ..adapters import to_state_dict
from ..devices import memory_limit_bytes, profile_from_node_config
from ..devices.memory_budget import MemoryMeter
from ..errors import DataError
from ..splitting.base_digest import BaseDigest
from ..transport.security import PLAIN
from ..types import DeviceProfile
from ..wire.base_text import base_to_text
from ..wire.instructions import (
    IMPORTANCE_KEY,
    INSTRUCTIONS_KEY,
    METRICS_KEY,
    PROFILE_KEY,
    QUERY_KEY,
    UPDATE_KEY,
    Instructions,
)
from . import site_log
from .answers import answer, name_of, tell
from .answers import errors_as_replies as errors_as_replies
from .channel_security import security_of
from .instructions_check import check_kind, checked_base
from .measurements import measurements
from .personal_adapter import PersonalAdapter
from .round_loop import Outcome
from .round_setup import Batches, ClientPart, machine_without_cache, run_round
from .step_log import OnStep, StepLog, both_told


def describe_device(
    msg: Message, context: Context, num_examples: int, *, num_steps: int = 0
) -> Message:
    """Answer a query with what this device has, its base too, and how many examples it trains on.

    The node's configuration says what the device may give (``memory-gb``, ``flops``, ``up-mbps``,
    ``down-mbps``, ``rtt-ms``); what it does not say is taken from the machine.

    Parameters
    ----------
    msg, context
        As Flower hands them to the app.
    num_examples
        Training examples of this client: its weight in the aggregation.
    num_steps
        Steps that it will take in a round: the progress bar and a schedule of the learning rate go
        by them; 0 says nothing.
    """

    def describe() -> RecordDict:
        if num_examples < 1:
            raise DataError("this client's partition is empty: one example or more is wanted")
        asked = msg.content.config_records.get(QUERY_KEY, ConfigRecord())
        dtype = str(asked.get("dtype", "float32"))
        base = BaseDigest()
        if model := context.node_config.get("model", asked.get("model")):
            base = checked_base(
                str(model),
                revision=str(asked.get("revision", "")),
                dtype=dtype,
                quantised=str(asked.get("quantised", "")),
            )
        record = _description(context, num_examples, dtype)
        if told := base_to_text(base):
            record["base"] = told
        if num_steps:
            record["num-steps"] = num_steps
        return RecordDict({PROFILE_KEY: record})

    return answer(msg, context, describe)


def split_train(
    msg: Message, context: Context, batches: Batches, *, on_step: OnStep | None = None
) -> Message:
    """Train this client's half for one round, a step for every batch or several.

    Parameters
    ----------
    msg, context
        As Flower hands them to the app.
    batches
        The user's own batches; as many as the client is to take steps, times
        ``gradient-accumulation-steps``.
    on_step
        Is told of each step as it was taken: its loss, its learning rate, how long it took. What it
        raises ends the round.
    """
    return answer(msg, context, lambda: _trained(msg, context, batches, on_step, is_whole=False))


def personal_steps(msg: Message) -> int:
    """How many steps a message asks for on an adapter of the client's own; 0 in every round.

    `split_train` takes as many of the batches that it is given; give it so many.
    """
    return _told(msg).personal_steps


def split_evaluate(msg: Message, context: Context, batches: Batches) -> Message:
    """Evaluate the global model on this client's own examples, its half here, the rest there.

    Parameters
    ----------
    msg, context
        As Flower hands them to the app.
    batches
        The user's own held-out batches.
    """
    return answer(msg, context, lambda: _evaluated(msg, context, batches, is_whole=False))


def federated_train(
    msg: Message, context: Context, batches: Batches, *, on_step: OnStep | None = None
) -> Message:
    """Train the whole model on this client for one round, a step for every batch or several.

    What is trained, adapters or all parameters, the strategy's method says.

    Parameters
    ----------
    msg, context
        As Flower hands them to the app.
    batches
        The user's own batches; as many as the client is to take steps, times
        ``gradient-accumulation-steps``.
    on_step
        As for `split_train`.
    """
    return answer(msg, context, lambda: _trained(msg, context, batches, on_step, is_whole=True))


def federated_evaluate(msg: Message, context: Context, batches: Batches) -> Message:
    """Evaluate the global model on this client's own examples, all of it here.

    Parameters
    ----------
    msg, context
        As Flower hands them to the app.
    batches
        The user's own held-out batches.
    """
    return answer(msg, context, lambda: _evaluated(msg, context, batches, is_whole=True))


def _trained(
    msg: Message, context: Context, batches: Batches, on_step: OnStep | None, *, is_whole: bool
) -> RecordDict:
    instructions = _instructions_of(msg, is_whole=is_whole)
    if steps := instructions.personal_steps:
        size = instructions.session.gradient_accumulation_steps
        batches = islice(batches, steps * size)
    # As the device is before the model is loaded: the next plan is made for this.
    device = _description(context, instructions.num_examples, instructions.model.computes_in)
    outcome = _outcome(
        instructions, msg, context, batches, both_told(StepLog(partial(tell, INFO)), on_step)
    )
    if instructions.personal_steps:
        # What was learnt is the client's own.
        own = PersonalAdapter.of_node(context.node_config, name=name_of(context))
        tell(INFO, f"this client's own adapter is in {own.folder.absolute()}")
        _tell_end(instructions, outcome)
        return RecordDict({METRICS_KEY: _metrics(instructions, outcome)})
    scores = outcome.importance
    arrays = ArrayRecord({**to_state_dict(outcome.updates), **outcome.weights})
    _tell_end(instructions, outcome, array_bytes=sum(len(one.data) for one in arrays.values()))
    return RecordDict(
        {
            UPDATE_KEY: arrays,
            METRICS_KEY: _metrics(instructions, outcome),
            PROFILE_KEY: device,
            IMPORTANCE_KEY: ConfigRecord(
                {"weights": list(scores), "scores": [float(score) for score in scores.values()]}
            ),
        }
    )


def _evaluated(msg: Message, context: Context, batches: Batches, *, is_whole: bool) -> RecordDict:
    instructions = _instructions_of(msg, is_whole=is_whole)
    outcome = _outcome(instructions, msg, context, batches)
    _tell_end(instructions, outcome)
    return RecordDict({METRICS_KEY: _metrics(instructions, outcome)})


def _metrics(instructions: Instructions, outcome: Outcome) -> MetricRecord:
    return MetricRecord({**measurements(instructions, outcome)})


def _description(context: Context, num_examples: int, dtype: str) -> ConfigRecord:
    """What this device has now: what its node config says, and the machine for the rest."""
    profile = profile_from_node_config(context.node_config, machine_without_cache(dtype))
    values: dict[str, Any] = {"num-examples": num_examples, "name": name_of(context)}
    for field in fields(DeviceProfile):
        values[field.name.replace("_", "-")] = float(getattr(profile, field.name))
    for key in ("partition-id", "num-partitions"):
        if key in context.node_config:
            values[key] = context.node_config[key]
    return ConfigRecord(values)


def _outcome(
    instructions: Instructions,
    msg: Message,
    context: Context,
    batches: Batches,
    on_step: OnStep | None = None,
) -> Outcome:
    tell(INFO, site_log.asked(instructions))
    machine = machine_without_cache(instructions.model.computes_in)
    has_channel, own = not instructions.whole.is_whole, bool(instructions.personal_steps)
    part = ClientPart(
        instructions=instructions,
        batches=batches,
        granted_bytes=profile_from_node_config(context.node_config, machine).memory_bytes,
        limit_bytes=memory_limit_bytes(context.node_config),
        model=str(context.node_config.get("model", instructions.model.name)),
        security=security_of(instructions.trust, context.node_config) if has_channel else PLAIN,
        take_arrays=lambda meter: _arrays_in(msg, meter),
        on_step=on_step,
        own=PersonalAdapter.of_node(context.node_config, name=name_of(context)) if own else None,
    )
    return run_round(part)


def _arrays_in(msg: Message, meter: MemoryMeter) -> dict[str, Tensor]:
    """What the message brings, in float32 and taken out of it: the round is to hold it alone."""
    records = list(msg.content.array_records.values())
    if len(records) != 1:
        raise DataError(
            f"the message has {len(records)} array records: one is wanted, the global adapter"
        )
    arrived = records[0].to_torch_state_dict(keep_input=False)
    # One after the other: what came in float16 is not to lie beside all that it becomes.
    state = {key: arrived.pop(key).float() for key in list(arrived)}
    meter.adopt(state.values())
    return state


def _instructions_of(msg: Message, *, is_whole: bool) -> Instructions:
    """What the message asks for, if it asks for a round of this kind."""
    told = _told(msg)
    check_kind(told.whole, is_whole=is_whole)
    return told


def _told(msg: Message) -> Instructions:
    """What the message asks for."""
    try:
        return Instructions.from_config(msg.content.config_records[INSTRUCTIONS_KEY])
    except KeyError:
        raise DataError(
            f"the message has no {INSTRUCTIONS_KEY!r} record: the server's strategy must "
            "be one of hsplit_flower, such as HSplitLoRA"
        ) from None


def _tell_end(instructions: Instructions, outcome: Outcome, *, array_bytes: int = 0) -> None:
    tell(INFO, site_log.did(instructions, outcome))
    tell(INFO, site_log.left_site(instructions, outcome, array_bytes=array_bytes))
