"""Two rounds of the whole-model methods against loops that are written by hand over PEFT models."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.trial import Examples, Setting, base_model
from benchmarks.trial.federation import after_round, architecture_of
from benchmarks.trial.federation import trained as trained_of_all
from benchmarks.trial.ranks import choose
from hsplit_flower.adapters.round_start import weight_generator
from hsplit_flower.data import batches
from hsplit_flower.methods import FED_LORA, FLEX_LORA, FLORA, FULL_TUNING, HET_LORA, MethodState
from hsplit_flower.settings import Training
from hsplit_flower.types import Scaling
from tests.reference import methods as reference
from tests.reference.aggregation import dense, relative_error
from tests.reference.unsplit import Factors, trainable_factors, with_peft

pytestmark = pytest.mark.long
SETTING = Setting(
    model="llama-tiny",
    dataset="restaurants",
    budgets=(2.0, 3.0),
    training=Training(learning_rate=4e-3, batch_size=2, seed=3),
    num_rounds=2,
    local_steps=2,
    evaluation_examples=4,
    autocast=False,
)
SCALING = Scaling()
Products = dict[str, Tensor]


def assert_near(got: Tensor, wanted: Tensor) -> None:
    """As a whole: where a gradient is nearly zero, Adam's step goes by the sign of its rounding."""
    assert relative_error(got, wanted.double()) < 2e-3


def rounds_of(setting: Setting, examples: Examples) -> list[MethodState]:
    """What the method knows after each round, as a trial has it."""
    base = base_model("llama-tiny")
    states = [MethodState.fresh(architecture_of("llama-tiny").weights)]
    for server_round in (1, 2):
        states.append(after_round(base, setting, examples, states[-1], server_round))
    return states[1:]


def given(examples: Examples, server_round: int, client: int) -> list[dict[str, Tensor]]:
    """A client's batches, as a trial draws them."""
    return list(
        batches(
            examples.parts[client],
            2,
            steps=2,
            seed=(3, server_round, client),
            pad_id=examples.pad_id,
        )
    )


def fresh(ranks: Mapping[str, int], server_round: int, drawn_by: int) -> Factors:
    """``B = 0``, and LoRA's random ``A``: Kaiming uniform with a = √5."""
    factors = {}
    for weight in architecture_of("llama-tiny").weights:
        a = torch.empty(ranks[weight.name], weight.in_features)
        bound = 1 / math.sqrt(weight.in_features)
        draws = weight_generator(hash((3, server_round, drawn_by)), weight.name)
        a.uniform_(-bound, bound, generator=draws)
        factors[weight.name] = torch.zeros(weight.out_features, len(a)), a
    return factors


def trained(
    base: Any, factors: Factors, steps: list[dict[str, Tensor]], penalty: float = 0.0
) -> Factors:
    """The raw factors after AdamW's steps over a PEFT model, whose optimizer begins anew."""
    model = with_peft(copy.deepcopy(base), factors, SCALING).train()
    own = trainable_factors(model)
    optimizer = torch.optim.AdamW(own.values(), lr=4e-3, weight_decay=0.0)
    for batch in steps:
        loss = model(**batch, use_cache=False).loss
        for name in factors:
            b, a = own[f"{name}.b"], own[f"{name}.a"]
            rank = len(a)
            t = math.floor(0.99 * rank)
            loss = loss + penalty * SCALING.of(rank) * b[:, t:].norm() * a[t:].norm()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: (own[f"{name}.b"].detach(), own[f"{name}.a"].detach()) for name in factors}


def effective(num_examples: int, factors: tuple[Tensor, Tensor]) -> reference.Trained:
    """With the scale of the client's own rank in ``B``."""
    b, a = (factor.double() for factor in factors)
    return reference.Trained(num_examples=num_examples, b=SCALING.of(len(a)) * b, a=a)


def ranks_of(setting: Setting) -> list[dict[str, int]]:
    architecture = architecture_of("llama-tiny")
    return [choose(architecture, setting, budget, {}) for budget in setting.budgets]


def added(base: Any, products: Products) -> Any:
    """A copy of a llama, whose layers store ``[out, in]``, with these in its weights."""
    model = copy.deepcopy(base)
    with torch.no_grad():
        for name, product in products.items():
            weight = model.get_submodule(name).weight
            weight.copy_(weight.double() + product)
    return model


def test_flora_is_stacking_fresh_restarts_and_merging(examples: Examples) -> None:
    setting = SETTING.changed({"method": FLORA})
    states = rounds_of(setting, examples)
    base, learnt = base_model("llama-tiny"), {}
    names = [weight.name for weight in architecture_of("llama-tiny").weights]
    for server_round, state in enumerate(states, start=1):
        model = added(base, learnt)
        ends = [
            trained(
                model, fresh(ranks, server_round, client), given(examples, server_round, client)
            )
            for client, ranks in enumerate(ranks_of(setting))
        ]
        assert {len(a) for end in ends for _, a in end.values()} == {2, 3}
        for name in names:
            clients = [
                effective(len(part), end[name])
                for part, end in zip(examples.parts, ends, strict=True)
            ]
            stacked_b = torch.cat(
                [p * c.b for p, c in zip(reference.shares(clients), clients, strict=True)], dim=1
            )
            product = stacked_b @ torch.cat([client.a for client in clients])
            learnt[name] = learnt.get(name, torch.zeros_like(product)) + product
            assert_near(dense(state.updates[name]), learnt[name])
    assert max(states[-1].ranks.values()) > 3


def test_fed_lora_goes_on_with_the_weighted_mean_of_the_very_factors(examples: Examples) -> None:
    setting = SETTING.changed({"method": FED_LORA})
    base, pair = base_model("llama-tiny"), fresh(ranks_of(setting)[0], 1, 0)
    for server_round, state in enumerate(rounds_of(setting, examples), start=1):
        ends = [trained(base, pair, given(examples, server_round, client)) for client in range(2)]
        p = [len(part) / sum(map(len, examples.parts)) for part in examples.parts]
        pair = {
            name: (
                p[0] * ends[0][name][0] + p[1] * ends[1][name][0],
                p[0] * ends[0][name][1] + p[1] * ends[1][name][1],
            )
            for name in pair
        }
        for name, (b, a) in pair.items():
            assert len(a) == 2, "what the weakest client can"
            got = state.updates[name]
            assert_near(got.b, SCALING.of(2) * b)
            assert_near(got.a, a)


def test_het_lora_truncates_penalises_weighs_by_norms_and_prunes(examples: Examples) -> None:
    pruning = HET_LORA.pruning
    assert pruning is not None
    setting = SETTING.changed({"method": HET_LORA})
    states = rounds_of(setting, examples)
    base, ranks = base_model("llama-tiny"), ranks_of(setting)
    pair: Factors = {}
    for server_round, state in enumerate(states, start=1):
        ends = []
        for client, own in enumerate(ranks):
            first = fresh(own, server_round, 0)
            if pair:
                # Effective factors of the pair, cut to the client's rank, under its own scale.
                first = {
                    name: (b[:, : own[name]] / SCALING.of(own[name]), a[: own[name]])
                    for name, (b, a) in pair.items()
                }
            steps = given(examples, server_round, client)
            ends.append(trained(base, first, steps, penalty=pruning.penalty))
        for name in ranks[0]:
            clients = [
                effective(len(part), end[name])
                for part, end in zip(examples.parts, ends, strict=True)
            ]
            b, a = reference.het_lora(clients)
            pair[name] = b.float(), a.float()
            got = state.updates[name]
            assert_near(got.b, pair[name][0])
            assert_near(got.a, pair[name][1])
        if server_round == 1:
            assert state.client_ranks == dict(enumerate(ranks))


def test_a_client_that_has_pruned_trains_at_its_lower_ranks(examples: Examples) -> None:
    setting = SETTING.changed({"method": HET_LORA, "local_steps": 1})
    fresh_state = MethodState.fresh(architecture_of("llama-tiny").weights)
    state = replace(fresh_state, client_ranks={1: dict.fromkeys(fresh_state.updates, 1)})
    results = trained_of_all(base_model("llama-tiny"), setting, examples, state, 1)
    ranks = [{update.rank for update in results[client].updates.values()} for client in (0, 1)]
    assert ranks == [{2}, {1}], "who has not pruned has what its bytes buy"


def test_flex_lora_gives_each_client_the_best_part_of_its_rank(examples: Examples) -> None:
    setting = SETTING.changed({"method": FLEX_LORA})
    states = rounds_of(setting, examples)
    base, ranks = base_model("llama-tiny"), ranks_of(setting)
    ends = [
        trained(base, fresh(own, 1, 0), given(examples, 1, client))
        for client, own in enumerate(ranks)
    ]
    for name in ranks[0]:
        total = reference.weighted_products(
            [
                effective(len(part), end[name])
                for part, end in zip(examples.parts, ends, strict=True)
            ]
        )
        assert_near(dense(states[0].updates[name]), total)
    # The second round's clients start from nothing but their parts: a rate of zero keeps them.
    still = setting.changed({"training.learning_rate": 1e-12})
    after = after_round(base, still, examples, states[0], 2)
    p = [len(part) / sum(map(len, examples.parts)) for part in examples.parts]
    for name in ranks[0]:
        before = dense(states[0].updates[name])
        wanted = sum(
            share * reference.best_part(before, own[name])
            for share, own in zip(p, ranks, strict=True)
        )
        assert_near(dense(after.updates[name]), wanted)


def test_full_tuning_is_federated_averaging_of_whole_models(examples: Examples) -> None:
    setting = SETTING.changed({"method": FULL_TUNING, "training.learning_rate": 4e-4})
    base = base_model("llama-tiny")
    mean = {name: w.detach().double() for name, w in base.named_parameters()}
    for server_round, state in enumerate(rounds_of(setting, examples), start=1):
        ends = []
        for client in range(2):
            model = copy.deepcopy(base).requires_grad_(True).train()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(mean[name])
            optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.0)
            for batch in given(examples, server_round, client):
                model(**batch, use_cache=False).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            ends.append({name: w.detach().double() for name, w in model.named_parameters()})
        p = [len(part) / sum(map(len, examples.parts)) for part in examples.parts]
        mean = {name: p[0] * ends[0][name] + p[1] * ends[1][name] for name in mean}
        assert state.weights.keys() == mean.keys()
        for name, parameter in base.named_parameters():
            before = parameter.detach().double()
            # What was learnt: beside the weight itself it is small.
            assert_near(state.weights[name].double() - before, mean[name] - before)
            assert bool((mean[name] - before).any())
