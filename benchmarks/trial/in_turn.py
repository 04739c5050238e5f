"""A round of clients that share one adapter above the cut, which each one's steps move in turn."""

from collections.abc import Mapping
from typing import Any

from benchmarks.trial.client import batches_of, loss_of, optimizer_over, with_adapters
from benchmarks.trial.examples import Examples
from benchmarks.trial.setting import Setting
from benchmarks.trial.whole_model import architecture_of
from hsplit_flower.adapters import Trainable, collect
from hsplit_flower.adapters.attach import LOCAL
from hsplit_flower.methods import ClientResult, MethodState


def train_in_turn(
    base: Any,
    setting: Setting,
    examples: Examples,
    state: MethodState,
    ranks: Mapping[int, Mapping[str, int]],
    *,
    server_round: int,
) -> dict[int, ClientResult]:
    """What each client brings home: its own factors below the cut, everybody's above it.

    Parameters
    ----------
    base, setting, examples, state
        Of the trial, and what the method knows before the round.
    ranks
        Of each client's adapters; above the cut the same for all.
    server_round
        Which round.
    """
    models = {
        client: with_adapters(base, state, own, setting, server_round, client)
        for client, own in ranks.items()
    }
    above = _names_above(setting)
    _, first = next(iter(models.values()))
    for model, trainables in models.values():
        _share(model, trainables, {name: one for name, one in first.items() if name in above})
    shared = optimizer_over(_factors(first, above), setting.training)
    own = {
        client: optimizer_over(_factors(trainables, trainables.keys() - above), setting.training)
        for client, (_, trainables) in models.items()
    }
    given = {client: batches_of(setting, examples, server_round, client) for client in models}
    for _ in range(setting.local_steps):
        for client, (model, _) in models.items():
            model.train()
            loss_of(model, next(given[client]), setting).backward()
            for optimizer in (own[client], shared):
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    scaling = setting.training.scaling
    return {
        client: ClientResult(
            num_examples=len(examples.parts[client]), updates=collect(trainables, scaling=scaling)
        )
        for client, (_, trainables) in models.items()
    }


def _names_above(setting: Setting) -> set[str]:
    weights = architecture_of(setting.model).weights
    return {weight.name for weight in weights if weight.block >= setting.cut}


def _share(model: Any, trainables: dict[str, Trainable], shared: Mapping[str, Trainable]) -> None:
    """Put these factors in the place of the model's own."""
    for name, factors in shared.items():
        layer = model.get_submodule(name)
        layer.lora_B[LOCAL].weight, layer.lora_A[LOCAL].weight = factors.b, factors.a
        trainables[name] = factors


def _factors(trainables: Mapping[str, Trainable], names: Any) -> list[Any]:
    found = (trainables[name] for name in sorted(names & trainables.keys()))
    return [factor for one in found for factor in (one.a, one.b)]
