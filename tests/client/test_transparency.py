"""A split model trains exactly as the unsplit one: every family, cut, label mode and transport.

The reference is PEFT on the whole model. Ranks differ from weight to weight, 0 among them, and the
round starts from a global update of which some is trained, some frozen in factors, and some added
to the weights.
"""

import functools
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half
from hsplit_flower.types import Labels
from tests.families import FAMILIES, IGNORED, NUM_BLOCKS, fields, packed
from tests.reference.unsplit import Step, base_model, trainable_factors
from tests.rounds import below, global_update, ranks, training_spec, unsplit_steps
from tests.tolerances import assert_same
from tests.workers import TRANSPORTS, Worker, exchange, load_client, running_worker

BATCHES = [
    fields(kind, seed)
    for seed, kind in enumerate(["right", "unpadded", "left", "unpadded", "right"])
]
CUTS = range(1, NUM_BLOCKS + 1)


@pytest.fixture(scope="module", params=FAMILIES)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One worker a family, for the sessions of all cuts."""
    with running_worker(request.param) as running:
        running.worker.load_update(global_update(request.param))
        yield running


@functools.cache
def _unsplit(family: str) -> list[Step]:
    return unsplit_steps(family, training_spec(family, 1), BATCHES)


class Watch:
    """Notes the logits, gradients and factors of both halves while a round runs."""

    def __init__(self, client: Half, worker: Worker, token: str, labels: Labels) -> None:
        self.logits: list[Tensor] = []
        self.gradients: list[dict[str, Tensor]] = []
        self.factors: list[dict[str, Tensor]] = []
        session = worker.sessions.find(token)
        self._parameters = trainable_factors(client.model)
        for name, trainable in session.trainables.items():
            self._parameters |= {f"{name}.b": trainable.b, f"{name}.a": trainable.a}
        self._seen: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            parameter.register_hook(functools.partial(self._seen.__setitem__, name))
        self._half = worker.half if labels is Labels.SERVER else client
        self._compute = self._half.logits
        self._half.logits = self._note_logits

    def _note_logits(self, *args: Tensor, **kwargs: int) -> Tensor:
        logits = self._compute(*args, **kwargs)
        self.logits.append(logits.detach())
        return logits

    def around(self, batches: Sequence[dict[str, Tensor]]) -> Iterator[Batch]:
        """The batches; what each one's step did is noted when the next one is asked for."""
        for batch in batches:
            yield Batch(**batch)
            self.gradients.append(dict(self._seen))
            self._seen.clear()
            self.factors.append({n: p.detach().clone() for n, p in self._parameters.items()})
        self._half.logits = self._compute


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.one_in(5)
def test_five_steps_equal_those_of_the_unsplit_model(
    worker: Worker, family: str, cut: int, labels: Labels, transport: str
) -> None:
    spec = training_spec(family, cut, labels=labels)
    client = load_client(family, cut, keeps_labels=labels is Labels.CLIENT)
    token = worker.worker.open(spec)
    with exchange(TRANSPORTS[transport], worker, token) as stream:
        local_round = LocalRound(client, below(family, cut), spec, stream)
        watch = Watch(client, worker, token, labels)
        outcome = local_round.train(watch.around(BATCHES), probe=False)
        result = worker.worker.collect(token)
    wanted = _unsplit(family)
    assert outcome.num_steps == result.num_steps == len(wanted)
    for index, step in enumerate(wanted):
        when = f"step {index + 1}"
        logits = step.logits
        if labels is Labels.SERVER:
            # The worker runs its head for the tokens that have a target alone.
            logits = logits[:, :-1][BATCHES[index]["labels"][:, 1:] != IGNORED][:, None]
        assert_same(watch.logits[index], logits, f"{when}: logits")
        assert watch.gradients[index].keys() == step.gradients.keys()
        for name, gradient in step.gradients.items():
            assert_same(watch.gradients[index][name], gradient, f"{when}: gradient of {name}")
        for name, factor in step.factors.items():
            assert_same(watch.factors[index][name], factor, f"after {when}: {name}")
    num_tokens = [int((batch["labels"][:, 1:] != -100).sum()) for batch in BATCHES]
    wanted_sum = sum(step.loss * count for step, count in zip(wanted, num_tokens, strict=True))
    assert outcome.loss.loss_sum == pytest.approx(wanted_sum, rel=1e-5)
    assert outcome.loss.num_tokens == sum(num_tokens)
    assert outcome.num_examples == 15
    trained = {**outcome.updates, **result.updates}
    assert not outcome.updates.keys() & result.updates.keys()
    for name, rank in spec.ranks.items():
        assert (trained[name].rank if name in trained else 0) == rank
        if rank:
            assert_same(
                trained[name].b, spec.scaling.of(rank) * wanted[-1].factors[f"{name}.b"], name
            )
            assert_same(trained[name].a, wanted[-1].factors[f"{name}.a"], name)


@pytest.mark.parametrize("kind", ["unpadded", "right", "left", "packed", "positions"])
@pytest.mark.parametrize("labels", Labels)
@pytest.mark.one_in(3)
def test_evaluation_is_that_of_the_global_model(
    worker: Worker, family: str, labels: Labels, kind: str
) -> None:
    """In evaluation nothing is trained, and where the update lies makes no difference."""
    cut = 2
    spec = SessionSpec(client=0, cut=cut, ranks=ranks(family), labels=labels, train=False)
    client = load_client(family, cut, keeps_labels=labels is Labels.CLIENT)
    token = worker.worker.open(spec)
    batch = _fields(kind)
    with exchange(TRANSPORTS["in-process"], worker, token) as stream:
        local_round = LocalRound(client, below(family, cut), spec, stream)
        outcome = local_round.evaluate([Batch(**{"attention_mask": None, **batch})])
    model = base_model(family, {n: u.dense() for n, u in global_update(family).items()})
    with torch.no_grad():
        wanted = model(**batch, use_cache=False).loss.item()
    assert outcome.loss.mean == pytest.approx(wanted, rel=1e-5)
    assert not outcome.updates


def _fields(kind: str) -> dict[str, Tensor]:
    if kind in ("packed", "positions"):
        return packed(9, with_mask=kind == "positions")
    return fields(kind, seed=9)


@pytest.mark.parametrize("labels", Labels)
def test_documents_that_are_packed_train_as_in_the_unsplit_model(
    worker: Worker, family: str, labels: Labels
) -> None:
    spec = training_spec(family, 1, labels=labels)
    wanted = unsplit_steps(family, spec, [packed(1), packed(2), fields("right", 3)])[-1]
    client = load_client(family, 1, keeps_labels=labels is Labels.CLIENT)
    token = worker.worker.open(spec)
    batches = [Batch(**packed(1), attention_mask=None), Batch(**packed(2), attention_mask=None)]
    with exchange(TRANSPORTS["in-process"], worker, token) as stream:
        local_round = LocalRound(client, below(family, 1), spec, stream)
        outcome = local_round.train([*batches, Batch(**fields("right", 3))], probe=False)
        trained = {**outcome.updates, **worker.worker.collect(token).updates}
    for name, update in trained.items():
        assert_same(update.b, spec.scaling.of(update.rank) * wanted.factors[f"{name}.b"], name)
        assert_same(update.a, wanted.factors[f"{name}.a"], name)
