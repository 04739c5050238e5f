"""What one client is told: everything that its session was opened with, and its own seed."""

from dataclasses import replace
from typing import Any

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.methods import HSPLIT_LORA, SPLIT_LORA, Method
from hsplit_flower.server.instructions import (
    FIRST_SECONDS,
    POOL_SECONDS,
    SERVER_APP_SECONDS,
    instructions_for,
    mixed_seed,
    session_spec,
)
from hsplit_flower.settings import (
    Client,
    Link,
    Model,
    RunSettings,
    Schedule,
    ScheduleOver,
    SessionSpec,
    Simulation,
    Training,
    Worker,
)
from hsplit_flower.types import (
    ClientInfo,
    ClientPlan,
    DeviceProfile,
    Labels,
    MemoryParts,
    ScaleRule,
    Span,
    Start,
    WireType,
)
from hsplit_flower.wire.instructions import Instructions

PROFILE = DeviceProfile(memory_bytes=1e9, flops_per_second=1e9)
CLIENT = ClientInfo(profile=PROFILE, num_examples=11, num_steps=7, partition=3, num_partitions=5)
SETTINGS = RunSettings(
    model=Model(name="m", revision="a-branch", dtype="bfloat16", attention="eager"),
    training=Training(
        batch_size=2,
        sequence_length=8,
        learning_rate=3e-3,
        weight_decay=0.1,
        lora_alpha=4.0,
        scale_rule=ScaleRule.RSLORA,
        labels=Labels.CLIENT,
        start=Start.RESTART,
        seed=5,
        micro_batch_size=2,
        schedule=Schedule.COSINE,
        schedule_over=ScheduleOver.ROUND,
        warmup_steps=0.25,
        final_learning_rate=1e-5,
        adam_beta1=0.8,
        adam_beta2=0.95,
        adam_epsilon=1e-7,
        gradient_accumulation_steps=3,
        label_smoothing=0.1,
        lora_dropout=0.2,
        max_gradient_norm=1.5,
    ),
    link=Link(
        wire_type=WireType.BFLOAT16,
        wire_gradient_type=WireType.INT8,
        in_flight=7,
        max_message_mb=12,
        step_timeout_seconds=7.0,
    ),
    client=Client(cached_halves=3),
    simulation=Simulation(fleet="homogeneous", lease_card_gb=4.0),
)
PART = ClientPlan(
    span=Span(start=0, stop=2),
    ranks={"w": 3},
    checkpointing=True,
    memory=MemoryParts(weights_bytes=5e8),
)
NODE = 13816022929839679101


def told(
    settings: RunSettings = SETTINGS,
    *,
    method: Method = HSPLIT_LORA,
    train: bool = True,
    client: ClientInfo = CLIENT,
) -> Instructions:
    return instructions_for(
        settings,
        method,
        {NODE: PART},
        {NODE: client},
        server_round=6,
        num_rounds=9,
        train=train,
        budgets_bytes={NODE: 1e9},
    )[NODE]


def test_instructions_say_all_that_the_settings_say() -> None:
    one = told()
    spec = one.session
    assert (spec.client, spec.cut, spec.ranks) == (NODE, 2, {"w": 3})
    run = {**SETTINGS.training.given(), **SETTINGS.link.given()}
    shared = run.keys() & type(spec).model_fields.keys() - {"seed"}
    assert len(shared) == 25
    for name in shared:
        assert getattr(spec, name) == run[name], name
    assert (spec.server_round, spec.num_rounds, spec.num_steps) == (6, 9, 7)
    assert one.model == SETTINGS.model
    assert one.link.replace(patience_seconds=None) == SETTINGS.link
    assert one.micro_batch_size == SETTINGS.training.micro_batch_size
    assert one.cached_halves == SETTINGS.client.cached_halves
    assert spec.max_tokens == 2 * 8
    assert (one.server_round, one.num_examples, one.probe) == (6, 11, True)
    assert one.checkpointing
    assert (one.predicted_bytes, one.budget_bytes) == (5e8, 1e9)
    assert (one.lease_gpu_fraction, one.lease_card_bytes) == (0.25, 4e9)
    assert Instructions.from_config(one.to_config()) == one


def test_who_is_not_held_to_a_budget_and_leases_nothing_is_told_of_neither() -> None:
    free = SETTINGS.replace(client=Client(enforce_budgets=False), simulation=Simulation())
    one = told(free)
    assert (one.budget_bytes, one.lease_gpu_fraction, one.lease_card_bytes) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_hidden_states_travel_as_the_base_computes_where_nothing_else_is_said(dtype: str) -> None:
    settings = SETTINGS.replace(link=Link(), model=Model(name="m", dtype=dtype))
    assert told(settings).session.wire_type is WireType(dtype)


def test_a_schedule_that_goes_by_steps_wants_to_know_how_many_there_are() -> None:
    silent = replace(CLIENT, num_steps=0)
    with pytest.raises(ConfigError, match="does not say how many it takes"):
        told(client=silent)
    assert told(client=silent, train=False).session.num_steps == 0
    by_round = SETTINGS.training.replace(schedule_over=ScheduleOver.BY_ROUND)
    told(SETTINGS.replace(training=by_round), client=silent)


def test_evaluation_probes_nothing() -> None:
    one = told(train=False)
    assert not one.session.train
    assert not one.probe


OWN_DRAWS = replace(HSPLIT_LORA, one_draw=False)


def test_clients_start_from_one_draw_where_the_method_says_so() -> None:
    def spec(method: Method, partition: int, start: Start = Start.CONTINUE) -> tuple[bool, int]:
        one = session_spec(
            SETTINGS.replace(training=SETTINGS.training.replace(start=start)),
            method,
            PART,
            node=NODE,
            client=replace(CLIENT, partition=partition),
            server_round=6,
            train=True,
        )
        return one.shares_adapters, one.seed

    assert spec(SPLIT_LORA, 0) == spec(SPLIT_LORA, 1)
    assert spec(SPLIT_LORA, 0)[0]
    assert spec(HSPLIT_LORA, 0) == spec(HSPLIT_LORA, 1)
    assert spec(OWN_DRAWS, 0)[1] != spec(OWN_DRAWS, 1)[1]
    # Where a round restarts, its fresh factors are all that it adds.
    assert spec(HSPLIT_LORA, 0, Start.RESTART)[1] != spec(HSPLIT_LORA, 1, Start.RESTART)[1]
    assert not spec(HSPLIT_LORA, 0)[0]


@pytest.mark.parametrize(
    ("worker", "seconds"),
    [
        ({}, SERVER_APP_SECONDS),
        ({"placement": "ray", "num_workers": 1}, POOL_SECONDS),
        ({"address": "127.0.0.1:8600"}, SessionSpec(client=0, cut=1).round_timeout_seconds),
    ],
    ids=["in the ServerApp", "one of a pool", "alone"],
)
def test_a_silent_worker_is_tried_for_as_long_as_one_may_come_back(
    worker: dict[str, Any], seconds: float
) -> None:
    settings = SETTINGS.replace(worker=Worker(**worker))
    assert told(settings).link.patience_seconds == seconds
    link = settings.link.replace(patience_seconds=3.0)
    assert told(settings).first_patience_seconds == FIRST_SECONDS
    said = told(settings.replace(link=link))
    assert (said.link.patience_seconds, said.first_patience_seconds) == (3.0, 0.0)


def test_seeds_differ_by_seed_round_and_client_and_come_again() -> None:
    seeds = {
        mixed_seed(seed, server_round, client)
        for seed in (0, 1)
        for server_round in (1, 2, 3)
        for client in (1, 2, "all")
    }
    assert len(seeds) == 2 * 3 * 3
    assert mixed_seed(0, 1, 3) == mixed_seed(0, 1, 3)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_clients_seed_is_that_of_its_partition() -> None:
    """Ids of nodes change from run to run, partitions do not."""

    def seed(node: int, client: ClientInfo) -> int:
        return session_spec(
            SETTINGS, OWN_DRAWS, PART, node=node, client=client, server_round=6, train=True
        ).seed

    nameless = replace(CLIENT, partition=None)
    assert seed(NODE, CLIENT) == seed(7, CLIENT)
    assert seed(NODE, nameless) != seed(7, nameless)
    assert seed(NODE, nameless) == seed(NODE, nameless)
