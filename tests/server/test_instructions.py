"""What one client is told: everything that its session was opened with, and its own seed."""

from dataclasses import replace

from hsplit_flower.server.instructions import mixed_seed, order, session_spec
from hsplit_flower.settings import Training
from hsplit_flower.types import (
    ClientInfo,
    ClientPlan,
    DeviceProfile,
    Labels,
    ScaleRule,
    Span,
    Start,
    WireType,
)
from hsplit_flower.wire.instructions import Instructions

PROFILE = DeviceProfile(memory_bytes=1e9, flops_per_second=1e9)
MEMBER = ClientInfo(profile=PROFILE, num_examples=11, partition=3, num_partitions=5)
TRAINING = Training(
    batch_size=2,
    sequence_length=8,
    learning_rate=3e-3,
    weight_decay=0.1,
    lora_alpha=4.0,
    scale_rule=ScaleRule.RSLORA,
    labels=Labels.CLIENT,
    start=Start.RESTART,
    seed=5,
    revision="a-branch",
    dtype="bfloat16",
    attention="eager",
    wire_type=WireType.BFLOAT16,
    wire_gradient_type=WireType.INT8,
    micro_batch_size=2,
    cached_halves=3,
    in_flight=7,
    max_message_bytes=12345,
    step_timeout_seconds=7.0,
)
NODE = 13816022929839679101


def test_an_order_says_all_that_the_settings_say() -> None:
    part = ClientPlan(span=Span(start=0, stop=2), ranks={"w": 3})
    spec = session_spec(TRAINING, part, node=NODE, member=MEMBER, server_round=6, train=True)
    told = order(TRAINING, spec, model="m", address="h:1", token="t", member=MEMBER, server_round=6)
    assert (spec.client, spec.cut, spec.ranks) == (NODE, 2, {"w": 3})
    for name in (
        "learning_rate",
        "weight_decay",
        "lora_alpha",
        "scale_rule",
        "labels",
        "start",
        "wire_type",
        "wire_gradient_type",
        "in_flight",
    ):
        assert getattr(spec, name) == getattr(TRAINING, name), name
    for name in (
        "revision",
        "dtype",
        "attention",
        "max_message_bytes",
        "micro_batch_size",
        "cached_halves",
        "step_timeout_seconds",
    ):
        assert getattr(told, name) == getattr(TRAINING, name), name
    assert spec.max_tokens == 2 * 8
    assert (told.server_round, told.num_examples, told.probe) == (6, 11, True)
    assert Instructions.from_config(told.to_config()) == told


def test_evaluation_probes_nothing() -> None:
    part = ClientPlan(span=Span(start=0, stop=2), ranks={})
    spec = session_spec(TRAINING, part, node=NODE, member=MEMBER, server_round=6, train=False)
    told = order(TRAINING, spec, model="m", address="h:1", token="t", member=MEMBER, server_round=6)
    assert not spec.train
    assert not told.probe


def test_seeds_differ_by_seed_round_and_client_and_come_again() -> None:
    nameless = replace(MEMBER, partition=None)
    seeds = {
        mixed_seed(seed, server_round, node, member)
        for seed in (0, 1)
        for server_round in (1, 2, 3)
        for node, member in ((1, nameless), (2, nameless), (NODE, MEMBER))
    }
    assert len(seeds) == 2 * 3 * 3
    assert mixed_seed(0, 1, NODE, MEMBER) == mixed_seed(0, 1, 7, MEMBER), "ids change, it does not"
    assert all(0 <= seed < 2**63 for seed in seeds)
