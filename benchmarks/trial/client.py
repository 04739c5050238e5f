"""One client's round on the whole model: adapters of its ranks are trained, or all parameters."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.trial.examples import Examples
from benchmarks.trial.setting import Setting
from benchmarks.trial.whole_model import architecture_of, with_weights
from hsplit_flower.adapters import Trainable, attach, collect, starting_points
from hsplit_flower.data import batches
from hsplit_flower.importance import probing
from hsplit_flower.methods import ClientResult, MethodState, sent_updates
from hsplit_flower.settings import Training
from hsplit_flower.splitting.whole_weights import weights_of

Penalty = Callable[[], Tensor]


def train_client(
    base: Any,
    setting: Setting,
    examples: Examples,
    state: MethodState,
    ranks: Mapping[str, int],
    *,
    server_round: int,
    client: int,
) -> ClientResult:
    """What the client brings home.

    Parameters
    ----------
    base, setting, examples, state
        Of the trial, and what the method knows before the round.
    ranks
        Of the client's adapters, where it trains any.
    server_round, client
        Which round and client.
    """
    own = setting, examples, server_round, client
    train = _train_adapters if setting.method.has_adapters else _train_weights
    return train(base, state, ranks, *own)


def _train_adapters(
    base: Any,
    state: MethodState,
    ranks: Mapping[str, int],
    setting: Setting,
    examples: Examples,
    server_round: int,
    client: int,
) -> ClientResult:
    training = setting.training
    model, trainables = with_adapters(base, state, ranks, setting, server_round, client)
    pruning = setting.method.pruning
    penalty = None
    if pruning is not None and trainables:
        penalty = partial(pruning.penalty_of, trainables, training.scaling)
    scores = {weight.name: 0.0 for weight in architecture_of(setting.model).weights}
    given = batches_of(setting, examples, server_round, client)
    _run(model, given, setting, scores=scores, penalty=penalty)
    return ClientResult(
        num_examples=len(examples.parts[client]),
        updates=collect(trainables, scaling=training.scaling),
        importance=scores,
    )


def with_adapters(
    base: Any,
    state: MethodState,
    ranks: Mapping[str, int],
    setting: Setting,
    server_round: int,
    client: int,
) -> tuple[Any, dict[str, Trainable]]:
    """The client's model as it starts the round, and what of it is trained."""
    method, training = setting.method, setting.method.training(setting.training)
    # Who shares a draw of fresh factors has the first client's.
    drawn_by = 0 if method.shares_draw(training.start) else client
    points = starting_points(
        architecture_of(setting.model).weights,
        sent_updates(method, state.updates, ranks),
        ranks,
        start=training.start,
        scaling=training.scaling,
        seed=hash((training.seed, server_round, drawn_by)),
        merges=method.merges,
    )
    model = copy.deepcopy(base)
    return model, attach(model, points, scaling=training.scaling)


def _train_weights(
    base: Any,
    state: MethodState,
    ranks: Mapping[str, int],
    setting: Setting,
    examples: Examples,
    server_round: int,
    client: int,
) -> ClientResult:
    model = with_weights(base, state.weights).requires_grad_(True)
    _run(model, batches_of(setting, examples, server_round, client), setting)
    return ClientResult(num_examples=len(examples.parts[client]), weights=weights_of(model))


def _run(
    model: Any,
    given: Iterator[Mapping[str, Tensor]],
    setting: Setting,
    *,
    scores: dict[str, float] | None = None,
    penalty: Penalty | None = None,
) -> None:
    """A step for each batch, of which the first ones score the weights' importance."""
    optimizer = optimizer_of(model, setting.training)
    model.train()
    for step, batch in enumerate(given):
        probed = scores if scores and step < setting.probe_steps else {}
        with probing(model, probed) as found:
            loss = loss_of(model, batch, setting)
            if penalty is not None:
                loss = loss + penalty()
            loss.backward()
        for name, score in found.items():
            assert scores is not None
            scores[name] += score / setting.probe_steps
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def batches_of(
    setting: Setting, examples: Examples, server_round: int, client: int
) -> Iterator[Mapping[str, Tensor]]:
    """Those of one client's round."""
    training = setting.training
    return batches(
        examples.parts[client],
        training.batch_size,
        steps=setting.local_steps,
        seed=(training.seed, server_round, client),
        pad_id=examples.pad_id,
    )


def loss_of(model: Any, batch: Mapping[str, Tensor], setting: Setting) -> Tensor:
    """The model's own, of a batch."""
    with torch.autocast("cpu", torch.bfloat16, enabled=setting.autocast):
        loss: Tensor = model(**batch, use_cache=False).loss
    return loss


def optimizer_of(model: Any, training: Training) -> torch.optim.Optimizer:
    """AdamW over all that is trained of a model."""
    return optimizer_over((one for one in model.parameters() if one.requires_grad), training)


def optimizer_over(parameters: Iterable[Tensor], training: Training) -> torch.optim.Optimizer:
    """AdamW over these parameters."""
    rate, decay = training.learning_rate, training.weight_decay
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
