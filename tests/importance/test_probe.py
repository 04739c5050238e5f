"""The gradient-weight product against plain autograd on the unfrozen, unsplit model."""

import functools

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound
from hsplit_flower.errors import AdapterError
from hsplit_flower.importance import gradient_weight_product, probing, scored
from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import Labels
from tests.families import NUM_BLOCKS, fields
from tests.reference.unsplit import base_model, with_peft
from tests.rounds import architecture, below, global_update, ranks, start
from tests.workers import TRANSPORTS, exchange, load_client, running_worker


def _spec(family: str, cut: int, is_trained_above_only: bool) -> SessionSpec:
    everywhere = ranks(family)
    lowest = 1 if is_trained_above_only else 0
    held = architecture(family).weights
    here = {w.name: everywhere[w.name] if w.block >= lowest else 0 for w in held}
    return SessionSpec(client=0, cut=cut, ranks=here, seed=1)


@functools.cache
def _plain_scores(family: str, kind: str, is_trained_above_only: bool) -> dict[str, float]:
    """``Σ |W G|`` with ``G`` from autograd, the base weights trainable beside the adapters."""
    spec = _spec(family, 1, is_trained_above_only)
    at = start(family, spec)
    model = with_peft(base_model(family, at.merged), at.trained, spec.scaling, at.frozen)
    plain = model.base_model.model
    layers = {w.name: plain.get_submodule(w.name) for w in architecture(family).weights}
    weights = {n: getattr(layer, "base_layer", layer).weight for n, layer in layers.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    model.train()
    model(**fields(kind, seed=4), use_cache=False).loss.backward()
    return {
        n: (weight.detach().double() * weight.grad.double()).abs().sum().item()
        for n, weight in weights.items()
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("kind", ["unpadded", "left"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.one_in(5)
def test_both_halves_score_every_weight(
    family: str, kind: str, labels: Labels, transport: str
) -> None:
    """GPT-2's Conv1D among them, and block 0 where nothing below the hidden state is trained."""
    with running_worker(family) as worker:
        worker.worker.load_update(global_update(family))
        for cut in range(1, NUM_BLOCKS + 1):
            is_trained_above_only = cut == 1
            spec = _spec(family, cut, is_trained_above_only).replace(labels=labels)
            client = load_client(family, cut, keeps_labels=labels is Labels.CLIENT)
            token = worker.worker.open(spec)
            with exchange(TRANSPORTS[transport], worker, token) as stream:
                local_round = LocalRound(client, below(family, cut), spec, stream)
                batch = Batch(**fields(kind, seed=4))
                here = local_round.train([batch], probe=True).importance
                there = worker.worker.collect(token).importance
            blocks = {w.name: w.block for w in architecture(family).weights}
            assert all(blocks[name] < cut for name in here)
            assert all(blocks[name] >= cut for name in there)
            wanted = _plain_scores(family, kind, is_trained_above_only)
            assert {**here, **there} == pytest.approx(wanted, rel=1e-5)
            assert min(wanted.values()) > 0


def test_only_weights_that_may_be_adapted_are_scored() -> None:
    own = {name: rank for name, rank in ranks("llama").items() if name.endswith("q_proj")}
    spec = SessionSpec(client=0, cut=2, ranks=own)
    with running_worker("llama") as worker:
        token = worker.worker.open(spec)
        with exchange(TRANSPORTS["in-process"], worker, token) as stream:
            local_round = LocalRound(load_client("llama", 2), {}, spec, stream)
            here = local_round.train([Batch(**fields())], probe=True).importance
            there = worker.worker.collect(token).importance
    assert here.keys() | there.keys() == own.keys()


def test_without_probing_nothing_is_scored() -> None:
    spec = SessionSpec(client=0, cut=2, ranks=ranks("llama"))
    with running_worker("llama") as worker:
        token = worker.worker.open(spec)
        with exchange(TRANSPORTS["in-process"], worker, token) as stream:
            local_round = LocalRound(load_client("llama", 2), {}, spec, stream)
            assert local_round.train([Batch(**fields())], probe=False).importance == {}
            assert worker.worker.collect(token).importance == {}


def test_the_scores_do_not_change_the_step() -> None:
    trained = {}
    with running_worker("llama") as worker:
        for probe in (False, True):
            spec = SessionSpec(client=0, cut=2, ranks=dict.fromkeys(ranks("llama"), 2))
            token = worker.worker.open(spec)
            with exchange(TRANSPORTS["in-process"], worker, token) as stream:
                local_round = LocalRound(load_client("llama", 2), {}, spec, stream)
                below_cut = local_round.train([Batch(**fields())] * 2, probe=probe).updates
                trained[probe] = {**below_cut, **worker.worker.collect(token).updates}
    for name, update in trained[True].items():
        assert torch.equal(update.b, trained[False][name].b)
        assert torch.equal(update.a, trained[False][name].a)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5)])
def test_the_product_is_that_of_the_formula(shape: tuple[int, ...]) -> None:
    weight = torch.randn(4, 7)
    inputs, output_gradient = torch.randn(*shape, 7), torch.randn(*shape, 4)
    gradient = torch.einsum(
        "ti,tj->ij", output_gradient.reshape(-1, 4).double(), inputs.reshape(-1, 7).double()
    )
    wanted = (weight.double() * gradient).abs().sum().item()
    assert gradient_weight_product(weight, inputs, output_gradient) == pytest.approx(wanted)


def test_the_product_is_taken_in_float32() -> None:
    """A sum of 4096 ones stops at 256 in bfloat16."""
    weight = torch.ones(1, 1, dtype=torch.bfloat16)
    ones = torch.ones(4096, 1, dtype=torch.bfloat16)
    assert gradient_weight_product(weight, ones, ones) == 4096.0


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = Conv1D(2, 4)
        self.norm = nn.LayerNorm(2)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.second(torch.relu(self.first(x))))


def test_frozen_layers_are_scored_where_nothing_asks_for_gradients() -> None:
    model = _Plain()
    with probing(model, ["first", "second"]) as scores:
        model(torch.randn(6, 3)).pow(2).sum().backward()
    assert scores.keys() == {"first", "second"}
    assert all(score > 0 for score in scores.values())
    assert all(parameter.grad is None for parameter in model.parameters())


class _Adding(nn.Module):
    """Adds to what a layer gave in place, as Falcon's blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.first(x)
        output += self.second(x)
        return output.pow(2).sum()


def test_what_a_layer_gave_may_be_added_to_in_place() -> None:
    model, x = _Adding(), torch.randn(6, 3)
    model(x).backward()
    wanted = {
        name: (layer.weight * layer.weight.grad).abs().sum().item()
        for name, layer in model.named_children()
    }
    model.requires_grad_(False)
    with probing(model, wanted) as scores:
        model(x).backward()
    assert scores == pytest.approx(wanted)


def test_scoring_copies_no_output() -> None:
    """Scoring is predicted to take a layer's input, and nothing of its output."""
    output = torch.randn(6, 4, requires_grad=True).exp()
    passed = scored(output, torch.randn(6, 3), lambda inputs, gradient: None)
    assert passed.data_ptr() == output.data_ptr()


def test_the_hooks_go_away_with_the_block() -> None:
    model = _Plain()
    with probing(model, ["first"]) as scores:
        pass
    assert not model(torch.randn(6, 3)).requires_grad
    assert scores == {}
    with pytest.raises(ZeroDivisionError), probing(model, ["first"]):
        raise ZeroDivisionError
    assert not model(torch.randn(6, 3)).requires_grad


def test_evaluation_is_not_scored() -> None:
    model = _Plain()
    with probing(model, ["first"]) as scores, torch.no_grad():
        model(torch.randn(6, 3))
    assert scores == {}


@pytest.mark.parametrize("name", ["norm", "third"])
def test_what_is_not_a_linear_layer_is_refused(name: str) -> None:
    with pytest.raises((AdapterError, AttributeError)), probing(_Plain(), [name]):
        pass
