"""On a quantised base, split training equals PEFT on the whole model, quantised by transformers."""

import functools
from collections.abc import Iterator

import pytest
import torch

from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half, Parts, load_half
from hsplit_flower.types import Labels
from tests.families import FAMILIES, NUM_BLOCKS, checkpoint, fields
from tests.reference.quantised import quantised_model, quantised_steps
from tests.reference.unsplit import Step
from tests.rounds import below, global_update, ranks, training_spec
from tests.tolerances import assert_same
from tests.workers import Worker, exchange, in_process, running_worker_of

BATCHES = [fields(kind, seed) for seed, kind in enumerate(["right", "unpadded", "left"])]
# Plain and transposed matrices, and scaled embeddings with soft caps.
BASES = (("llama", "nf4"), ("gpt2", "int8"))
OTHERS = (("llama", "int8"), ("gpt2", "nf4"), ("gemma2", "nf4"), ("gemma2", "int8"))


@pytest.fixture(
    scope="module", params=[*BASES, *(pytest.param(one, marks=pytest.mark.long) for one in OTHERS)]
)
def base(request: pytest.FixtureRequest) -> Iterator[tuple[str, str, Worker]]:
    """A worker of a quantised base, for the sessions of all cuts."""
    name, kind = request.param
    with running_worker_of(_half(name, kind, Parts.of_worker(1, NUM_BLOCKS))) as running:
        running.worker.load_update(global_update(name))
        yield name, kind, running


def _half(name: str, kind: str, parts: Parts) -> Half:
    return load_half(
        str(checkpoint(name)), parts, attention=FAMILIES[name].attention, quantised=kind
    )


@functools.cache
def _unsplit(name: str, kind: str) -> list[Step]:
    return quantised_steps(name, kind, training_spec(name, 1), BATCHES)


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("cut", range(1, NUM_BLOCKS + 1))
@pytest.mark.one_in(5)
def test_steps_equal_those_of_the_unsplit_quantised_model(
    base: tuple[str, str, Worker], cut: int, labels: Labels
) -> None:
    name, kind, worker = base
    spec = training_spec(name, cut, labels=labels)
    client = _half(name, kind, Parts.of_client(cut, keeps_labels=labels is Labels.CLIENT))
    before = {key: one.clone() for key, one in client.model.named_parameters()}
    token = worker.worker.open(spec)
    with exchange(in_process, worker, token) as stream:
        local_round = LocalRound(client, below(name, cut), spec, stream)
        outcome = local_round.train([Batch(**batch) for batch in BATCHES], probe=False)
        result = worker.worker.collect(token)
    wanted = _unsplit(name, kind)
    counts = [int((batch["labels"][:, 1:] != -100).sum()) for batch in BATCHES]
    wanted_sum = sum(step.loss * count for step, count in zip(wanted, counts, strict=True))
    assert outcome.loss.loss_sum == pytest.approx(wanted_sum, rel=1e-5)
    trained = {**outcome.updates, **result.updates}
    for weight, rank in spec.ranks.items():
        if rank:
            b = spec.scaling.of(rank) * wanted[-1].factors[f"{weight}.b"]
            assert_same(trained[weight].b, b, weight)
            assert_same(trained[weight].a, wanted[-1].factors[f"{weight}.a"], weight)
    # Nothing went into the weights: the half may be lent again.
    assert local_round.release_half()
    after = dict(client.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], one) for key, one in before.items())


def test_evaluation_is_that_of_the_quantised_model(base: tuple[str, str, Worker]) -> None:
    """In evaluation too no activation is rounded, whatever bitsandbytes' own layers do there."""
    name, kind, worker = base
    spec = SessionSpec(client=0, cut=2, ranks=ranks(name), train=False)
    client = _half(name, kind, Parts.of_client(2, keeps_labels=False))
    worker.worker.load_update({})
    token = worker.worker.open(spec)
    batch = fields("right", seed=9)
    with exchange(in_process, worker, token) as stream:
        outcome = LocalRound(client, {}, spec, stream).evaluate([Batch(**batch)])
    worker.worker.load_update(global_update(name))
    model = quantised_model(name, kind).train()
    with torch.no_grad():
        wanted = model(**batch, use_cache=False).loss.item()
    assert outcome.loss.mean == pytest.approx(wanted, rel=1e-5)
