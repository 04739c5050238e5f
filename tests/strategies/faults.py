"""What a client can do wrong, and the reason that it is left out with."""

import math
from collections.abc import Callable
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict

from hsplit_flower.adapters import LowRank, to_state_dict
from hsplit_flower.client.app import split_train
from hsplit_flower.wire.instructions import IMPORTANCE_KEY, METRICS_KEY, PROFILE_KEY, UPDATE_KEY
from tests.strategies.clients import Batches, Train, change_factors, with_reply


def raises(msg: Message, context: Context, some: Batches) -> Message:
    raise ValueError("my disk is full")


def takes_no_step(msg: Message, context: Context, some: Batches) -> Message:
    return split_train(msg, context, [])


def sends_a_stranger_s_batch(msg: Message, context: Context, some: Batches) -> Message:
    return split_train(msg, context, [{"input_ids": torch.ones(2, 5).long()}])


def sends_too_long_a_sequence(msg: Message, context: Context, some: Batches) -> Message:
    long = {name: torch.ones(1, 30).long() for name in ("input_ids", "attention_mask", "labels")}
    return split_train(msg, context, [long])


def has_another_model(msg: Message, context: Context, some: Batches) -> Message:
    context.node_config["model"] = "/no/such/model"
    return split_train(msg, context, some)


def answers_something_else(msg: Message, context: Context, some: Batches) -> Message:
    return Message(RecordDict({"arrays": ArrayRecord({"w": torch.ones(1)})}), reply_to=msg)


def trains_for_nan(msg: Message, context: Context, some: Batches) -> Message:
    """Real divergence: adapters that start from NaN."""
    for record in msg.content.array_records.values():
        state = record.to_torch_state_dict()
        for key in state:
            state[key] = torch.full_like(state[key], math.nan)
        msg.content["arrays"] = ArrayRecord(state)
    return split_train(msg, context, some)


def metric(key: str, value: float) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        content.metric_records[METRICS_KEY][key] = value

    return change


def described(key: str, value: float) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        content.config_records[PROFILE_KEY][key] = value

    return change


def importance(score: float) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        record = content.config_records[IMPORTANCE_KEY]
        record["scores"] = [score, *record["scores"][1:]]

    return change


def without(key: str) -> Callable[[Any], None]:
    return lambda content: content.pop(key)


def other_rank(content: Any) -> None:
    state = content.array_records[UPDATE_KEY].to_torch_state_dict()
    key = next(key for key in state if key.endswith("lora_A.weight"))
    name = key.removesuffix(".lora_A.weight")
    widened = LowRank(b=torch.ones(16, 5), a=torch.ones(5, 16))
    content[UPDATE_KEY] = ArrayRecord({**state, **to_state_dict({name: widened})})


def other_shape(content: Any) -> None:
    change_factors(content, lambda factor: factor[:, :3])


def weight_of_the_worker(content: Any) -> None:
    state = content.array_records[UPDATE_KEY].to_torch_state_dict()
    stranger = {"model.layers.2.mlp.up_proj": LowRank(b=torch.ones(24, 1), a=torch.ones(1, 16))}
    content[UPDATE_KEY] = ArrayRecord({**state, **to_state_dict(stranger)})


def one_factor(content: Any) -> None:
    state = content.array_records[UPDATE_KEY].to_torch_state_dict()
    state.pop(next(key for key in state if key.endswith("lora_B.weight")))
    content[UPDATE_KEY] = ArrayRecord(state)


def flat_factors(content: Any) -> None:
    change_factors(content, lambda factor: factor.flatten())


def scores_the_workers_weights(content: Any) -> None:
    record = content.config_records[IMPORTANCE_KEY]
    record["weights"] = [*record["weights"], "model.layers.2.mlp.up_proj"]
    record["scores"] = [*record["scores"], 1e9]


def scores_an_unknown_weight(content: Any) -> None:
    record = content.config_records[IMPORTANCE_KEY]
    record["weights"] = ["nobody.knows.me", *record["weights"][1:]]


def garbled_array(content: Any) -> None:
    array = next(iter(content.array_records[UPDATE_KEY].values()))
    array.data = array.data[: len(array.data) // 2]


def array_of(data: bytes) -> Callable[[Any], None]:
    """The bytes of the first factor, which numpy reads."""

    def change(content: Any) -> None:
        next(iter(content.array_records[UPDATE_KEY].values())).data = data

    return change


def npy(header: str) -> bytes:
    """The beginning of numpy's own format, under any header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


FAULTS: dict[str, tuple[Train, str]] = {
    "raises": (raises, "my disk is full"),
    "no batch": (takes_no_step, "DataError: no batches"),
    "batch without labels": (sends_a_stranger_s_batch, r"DataError: batch 1: has no \['labels'"),
    "too long": (sends_too_long_a_sequence, "30 tokens is longer than the model's 24 positions"),
    "no model": (
        has_another_model,
        "UnsupportedModelError: .*cannot be loaded from this device's disk",
    ),
    "no such records": (answers_something_else, "its reply cannot be read"),
    "nan below the cut": (trains_for_nan, "NonFiniteError"),
    "nan loss": (with_reply(metric("loss-sum", math.nan)), "loss.*nan"),
    "infinite loss": (with_reply(metric("loss-sum", math.inf)), "loss.*inf"),
    "loss beyond all": (with_reply(metric("loss-sum", 1e308)), r"loss.* 1e\+30 or less"),
    "no token": (with_reply(metric("num-tokens", 0)), "no token"),
    "infinitely many tokens": (with_reply(metric("num-tokens", math.inf)), "cannot be read"),
    "fewer than no tokens": (with_reply(metric("num-tokens", -5)), "cannot be read"),
    "too many tokens": (with_reply(metric("num-tokens", 2**60)), "num-tokens is .* is wanted"),
    "a speed that nothing has": (
        with_reply(described("flops-per-second", 1e-300)),
        "flops is 1e-300, no device has that",
    ),
    "nan seconds": (with_reply(metric("seconds", math.nan)), "seconds.*nan"),
    "other steps": (with_reply(metric("num-steps", 9)), "9 steps.*worker 2.*belong together"),
    "nan tokens in its batches": (
        with_reply(metric("num-batch-tokens", math.nan)),
        "cannot be read",
    ),
    "nan importance": (with_reply(importance(math.nan)), "importance of .* is nan"),
    "negative importance": (with_reply(importance(-1.0)), "importance of .* is -1"),
    "importance beyond all": (with_reply(importance(1e308)), r"importance of .* 1e\+30 or less"),
    "importance of the other half": (with_reply(scores_the_workers_weights), "up_proj"),
    "importance of nothing": (with_reply(scores_an_unknown_weight), "nobody.knows.me"),
    "no importance": (with_reply(without(IMPORTANCE_KEY)), "its reply cannot be read"),
    "no update": (with_reply(without(UPDATE_KEY)), "its reply cannot be read"),
    "no metrics": (with_reply(without(METRICS_KEY)), "its reply cannot be read"),
    "nan factors": (
        with_reply(lambda content: change_factors(content, lambda f: f * math.nan)),
        "NaN or infinity",
    ),
    "factors beyond all": (
        with_reply(lambda content: change_factors(content, lambda f: f.fill_(3e38))),
        "norm of up to .*diverged",
    ),
    "other rank": (with_reply(other_rank), "other ranks than planned.*5 for 4"),
    "other shape": (with_reply(other_shape), r"got an update of shape .*wanted"),
    "a weight above the cut": (with_reply(weight_of_the_worker), "other ranks than planned"),
    "half a pair": (with_reply(one_factor), "lacks its factor"),
    "factors without a shape": (with_reply(flat_factors), "do not multiply to an update"),
    "garbled array": (with_reply(garbled_array), "its reply cannot be read"),
    "array that seems a zip file": (with_reply(array_of(b"PK\x03\x04")), "cannot be read"),
    "array whose header has no end": (with_reply(array_of(npy("{'descr': (("))), "cannot be read"),
    "array without bounds": (
        with_reply(
            array_of(
                npy("{'descr': '<f4', 'fortran_order': False, 'shape': (281474976710656, 8)}\n")
            )
        ),
        "cannot be read",
    ),
}
