"""Values that cross the wire, no field of which is what it would be if nothing were said."""

from hsplit_flower.settings import Link, Model, SessionSpec, Trust
from hsplit_flower.types import Labels, ScaleRule, Start, WireType, WorkerDescription
from hsplit_flower.wire.instructions import Instructions, WholeTraining

SPEC = SessionSpec(
    client_name="clinic-a",
    client=2**63,
    cut=3,
    ranks={"a.0": 4, "b.1": 0},
    labels=Labels.CLIENT,
    start=Start.RESTART,
    lora_alpha=0.1,
    scale_rule=ScaleRule.RSLORA,
    learning_rate=1e-5,
    weight_decay=0.3,
    seed=2**63 + 1,
    wire_type=WireType.BFLOAT16,
    wire_gradient_type=WireType.INT8,
    in_flight=7,
    hidden_clip_norm=3.5,
    hidden_noise=0.25,
    gradient_clip_norm=1e-3,
    gradient_noise=2.5,
    noise_seed=4,
    round_timeout_seconds=90.5,
    max_tokens=2**40,
    shares_adapters=True,
    truncates=True,
    train=False,
    kept_tokens=77,
)
INSTRUCTIONS = Instructions(
    server_round=3,
    num_examples=17,
    model=Model(name="owner/model", revision="v2", dtype="bfloat16", attention="sdpa"),
    link=Link(wire_type=WireType.INT8, max_message_mb=7, step_timeout_seconds=1.5),
    session=SPEC,
    whole=WholeTraining(
        is_whole=True, trains_weights=True, merges=True, tail_decay=0.5, tail_penalty=0.25
    ),
    base="what tells a base from others",
    trust=Trust(is_secured=True, root_certificates="of an authority"),
    address="[::1]:8600",
    token="a token",
    probe=True,
    checkpointing=True,
    micro_batch_size=4,
    cached_halves=2,
    predicted_bytes=1.5e9,
    budget_bytes=2e9,
    lease_gpu_fraction=0.25,
    lease_card_bytes=8e10,
)
DESCRIPTION = WorkerDescription(
    model="owner/model",
    num_blocks=12,
    lowest_cut=2,
    memory_bytes=1e11 / 3,
    flops_per_second=1e15 / 7,
    dtype="bfloat16",
    max_sessions=2**16,
    base="what tells a base from others",
    max_message_bytes=2**26,
    adapter="0123",
)
