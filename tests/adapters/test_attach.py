"""Frozen and trainable factors on a client's half, as two PEFT adapters of any ranks."""

import warnings

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from hsplit_flower.adapters import (
    LowRank,
    StartingPoint,
    adapter_optimizer,
    attach,
    collect,
    starting_points,
)
from hsplit_flower.errors import AdapterError
from hsplit_flower.settings import Recipe
from hsplit_flower.splitting import Half
from hsplit_flower.splitting.linear import linear_at, matrix_of
from hsplit_flower.types import ScaleRule, Scaling, Start
from tests.families import fields
from tests.reference.unsplit import base_model, trainable_factors
from tests.rounds import architecture, below, ranks
from tests.tolerances import assert_same
from tests.workers import load_client

SCALING = Scaling(alpha=8.0, rule=ScaleRule.RSLORA)
CUT = 2


def _starts(name: str, **changes: object) -> dict[str, StartingPoint]:
    weights = [w for w in architecture(name).weights if w.block < CUT]
    settings = {"start": Start.CONTINUE, "scaling": SCALING, "seed": 1} | changes
    return starting_points(weights, below(name, CUT), ranks(name), **settings)


def _hidden(half: Half) -> torch.Tensor:
    batch = fields("right")
    return half.embed(batch["input_ids"], batch["attention_mask"]).detach()


@pytest.mark.parametrize("start", Start)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_half_starts_as_the_global_update(name: str, start: Start) -> None:
    half = load_client(name, CUT)
    attach(half.model, _starts(name, start=start), scaling=SCALING)
    plain = base_model(name, {n: u.dense() for n, u in below(name, CUT).items()})
    wanted = plain(**fields("right"), output_hidden_states=True).hidden_states[CUT].detach()
    assert_same(_hidden(half), wanted)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_only_the_local_factors_are_trained(name: str) -> None:
    half, starts = load_client(name, CUT), _starts(name)
    trainables = attach(half.model, starts, scaling=SCALING)
    wanted = {n: rank for n, rank in ranks(name).items() if n in starts and rank}
    assert {n: t.a.shape[0] for n, t in trainables.items()} == wanted
    assert trainable_factors(half.model).keys() == {f"{n}.{k}" for n in wanted for k in "ab"}
    for key, trainable in trainables.items():
        assert torch.equal(trainable.b, starts[key].trainable_b)
        assert torch.equal(trainable.a, starts[key].trainable_a)
        assert trainable.b.dtype == torch.float32


def test_a_weight_has_the_adapters_that_it_needs() -> None:
    half, starts = load_client("llama", CUT), _starts("llama")
    attach(half.model, starts, scaling=SCALING)
    kinds = set()
    for name, start in starts.items():
        layer = half.model.get_submodule(name)
        wanted = {"global"} if start.frozen.rank else set()
        wanted |= {"local"} if start.trainable_b.shape[1] else set()
        assert isinstance(layer, LoraLayer) == bool(wanted)
        if wanted:
            assert set(layer.lora_A) == set(layer.active_adapters) == wanted
            for adapter in wanted:
                scale = SCALING.of(layer.r[adapter]) if adapter == "local" else 1
                assert layer.scaling[adapter] == pytest.approx(scale)
        kinds.add(frozenset(wanted))
    assert len(kinds) == 4, "the example does not hold all four kinds"


def test_training_changes_the_local_factors_alone() -> None:
    half = load_client("llama", CUT)
    trainables = attach(half.model, _starts("llama"), scaling=SCALING)
    before = {key: p.detach().clone() for key, p in half.model.named_parameters()}
    optimizer = adapter_optimizer(trainables, Recipe(learning_rate=0.1))
    batch = fields("right")
    for _ in range(2):  # where b is zero, the first step leaves a as it is
        half.embed(batch["input_ids"], batch["attention_mask"]).pow(2).sum().backward()
        optimizer.step()
    changed = {k for k, p in half.model.named_parameters() if not torch.equal(before[k], p)}
    assert changed == {k for k in before if ".local." in k}


def test_what_is_collected_has_its_scale_folded_in_and_is_a_copy() -> None:
    half, starts = load_client("llama", CUT), _starts("llama")
    trainables = attach(half.model, starts, scaling=SCALING)
    updates = collect(trainables, scaling=SCALING)
    for name, update in updates.items():
        b, a = starts[name].trainable_b.double(), starts[name].trainable_a.double()
        product = SCALING.of(starts[name].trainable_a.shape[0]) * b @ a
        assert_same(update.dense(), product)
        assert not update.b.requires_grad
        trainables[name].b.data.zero_()
        trainables[name].a.data.zero_()
        assert_same(update.dense(), product)


def test_an_update_dearer_than_the_weight_is_added_to_the_copy_in_memory() -> None:
    half, starts = load_client("llama", CUT), _starts("llama")
    merged = [name for name, start in starts.items() if start.merge is not None]
    before = {name: matrix_of(linear_at(half.model, name)).clone() for name in starts}
    attach(half.model, starts, scaling=SCALING)
    assert merged
    for name in starts:
        wanted = before[name]
        if name in merged:
            wanted = wanted + starts[name].merge.dense()
        assert torch.equal(matrix_of(linear_at(half.model, name)), wanted)


def test_nothing_to_attach_leaves_the_half_as_it_is() -> None:
    half = load_client("gpt2", CUT)
    weights = [w for w in architecture("gpt2").weights if w.block < CUT]
    starts = starting_points(weights, {}, {}, start=Start.RESTART, scaling=Scaling(), seed=0)
    assert attach(half.model, starts, scaling=Scaling()) == {}
    assert not any(isinstance(module, LoraLayer) for module in half.model.modules())
    assert adapter_optimizer({}, Recipe(learning_rate=1.0, weight_decay=0.0)) is None


def test_factors_are_float32_on_a_narrower_half() -> None:
    half = load_client("llama", CUT)
    half.model.to(torch.bfloat16)
    trainables = attach(half.model, _starts("llama", dtype=torch.bfloat16), scaling=SCALING)
    assert {t.a.dtype for t in trainables.values()} == {torch.float32}
    batch = fields("right")
    hidden = half.embed(batch["input_ids"], batch["attention_mask"])
    assert hidden.dtype == torch.bfloat16
    hidden.float().sum().backward()
    assert all(t.b.grad is not None for t in trainables.values())


def test_names_that_begin_alike_are_kept_apart() -> None:
    blocks = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(4, 4)}) for _ in range(112))
    model = nn.ModuleDict({"layers": blocks})
    wanted = {"layers.1.up": 1, "layers.11.up": 2, "layers.111.up": 3}
    starts = {
        name: StartingPoint(
            trainable_b=torch.zeros(4, rank),
            trainable_a=torch.ones(rank, 4),
            initial=LowRank.zeros(4, 4),
            frozen=LowRank.zeros(4, 4),
        )
        for name, rank in wanted.items()
    }
    trainables = attach(model, starts, scaling=SCALING)
    assert {name: t.a.shape[0] for name, t in trainables.items()} == wanted
    scaling = {
        name: module.scaling["local"]
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    assert scaling == pytest.approx({name: SCALING.of(rank) for name, rank in wanted.items()})


def _point(out_features: int, in_features: int) -> StartingPoint:
    return StartingPoint(
        trainable_b=torch.zeros(out_features, 1),
        trainable_a=torch.zeros(1, in_features),
        initial=LowRank.zeros(out_features, in_features),
        frozen=LowRank.zeros(out_features, in_features),
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.0.self_attn.q_proj", r"weight of \(16, 15\), the model has \(16, 16\)"),
        ("model.layers.0.self_attn.z_proj", "is not a linear layer of this model"),
        ("model.layers.2.self_attn.q_proj", "is not a linear layer of this model"),
        ("model.norm", "is not a linear layer of this model"),
    ],
)
def test_factors_that_fit_no_weight_are_refused(name: str, message: str) -> None:
    half = load_client("llama", CUT)
    with pytest.raises(AdapterError, match=f"'{name}'.*{message}"):
        attach(half.model, {name: _point(16, 15)}, scaling=Scaling())


def test_two_adapters_are_no_cause_for_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(load_client("llama", CUT).model, _starts("llama"), scaling=SCALING)
