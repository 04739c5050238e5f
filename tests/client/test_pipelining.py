"""A step in micro-batches, several on the wire at a time, is the step of the whole batch."""

import functools
import math
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch
from torch import Tensor

from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound
from hsplit_flower.metrics import count_label_tokens
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half
from hsplit_flower.transport.streams import Stream
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.messages import Backward, Forward, Reply, Request
from tests.families import IGNORED, fields
from tests.reference.unsplit import Step, trainable_factors
from tests.rounds import below, global_update, training_spec, unsplit_steps
from tests.tolerances import assert_same
from tests.workers import TRANSPORTS, Worker, load_client, running_worker

FAMILIES = ("gpt2", "llama")
CUT = 2


def _joined(*parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _without_labels_in(row: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    labels = batch["labels"].clone()
    labels[row] = IGNORED
    return batch | {"labels": labels}


BATCHES = [
    _joined(fields("right", 1), fields("unpadded", 2)),
    fields("left", 3),
    # A part without a single target token adds nothing, and is no mistake.
    _without_labels_in(0, _joined(fields("right", 4), fields("left", 5))),
]


@pytest.fixture(scope="module", params=FAMILIES)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with running_worker(request.param) as running:
        running.worker.load_update(global_update(request.param))
        yield running


def _spec(family: str, labels: Labels = Labels.SERVER, in_flight: int = 1) -> SessionSpec:
    return training_spec(family, CUT, labels=labels, in_flight=in_flight, learning_rate=1e-2)


@functools.cache
def _unsplit(family: str) -> list[Step]:
    return unsplit_steps(family, _spec(family), BATCHES)


class Watch:
    """Notes what gradients have added up to at the end of each step, and the factors after it."""

    def __init__(self, client: Half, worker: Worker, token: str) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.factors: list[dict[str, Tensor]] = []
        self._parameters = trainable_factors(client.model)
        for name, trainable in worker.sessions.find(token).trainables.items():
            self._parameters |= {f"{name}.b": trainable.b, f"{name}.a": trainable.a}
        self._sums: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            parameter.register_post_accumulate_grad_hook(functools.partial(self._note, name))

    def _note(self, name: str, parameter: Tensor) -> None:
        self._sums[name] = parameter.grad.clone()

    def around(self, batches: list[dict[str, Tensor]]) -> Iterator[Batch]:
        for batch in batches:
            yield Batch(**batch)
            self.gradients.append(dict(self._sums))
            self._sums.clear()
            self.factors.append({n: p.detach().clone() for n, p in self._parameters.items()})


class Counted(Stream):
    """Passes everything on; knows how many requests were unanswered at most."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._now = 0
        self.most = 0
        self.requests: list[Request] = []

    def send(self, request: Request) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        self.requests.append(request)
        self._stream.send(request)

    def receive(self) -> Reply:
        reply = self._stream.receive()
        self._now -= 1
        return reply

    def close(self) -> None:
        self._stream.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize(("size", "in_flight"), [(1, 3), (2, 1), (2, 2), (4, 9)])
@pytest.mark.one_in(3)
def test_steps_in_micro_batches_equal_those_of_the_unsplit_model(
    worker: Worker, family: str, labels: Labels, size: int, in_flight: int, transport: str
) -> None:
    spec = _spec(family, labels, in_flight)
    client = load_client(family, CUT, keeps_labels=labels is Labels.CLIENT)
    token = worker.worker.open(spec)
    with closing(Counted(TRANSPORTS[transport](worker, token, WireType.FLOAT32))) as stream:
        local_round = LocalRound(client, below(family, CUT), spec, stream, micro_batch_size=size)
        watch = Watch(client, worker, token)
        outcome = local_round.train(watch.around(BATCHES), probe=False)
    wanted = _unsplit(family)
    assert outcome.num_steps == worker.worker.collect(token).num_steps == len(wanted)
    for index, step in enumerate(wanted):
        assert watch.gradients[index].keys() == step.gradients.keys()
        for name, gradient in step.gradients.items():
            assert_same(watch.gradients[index][name], gradient, f"step {index + 1}: d{name}")
        for name, factor in step.factors.items():
            assert_same(watch.factors[index][name], factor, f"after step {index + 1}: {name}")
    num_tokens = [count_label_tokens(batch["labels"]) for batch in BATCHES]
    assert outcome.loss.num_tokens == sum(num_tokens)
    wanted_sum = sum(step.loss * count for step, count in zip(wanted, num_tokens, strict=True))
    assert outcome.loss.loss_sum == pytest.approx(wanted_sum, rel=1e-5)
    most_parts = max(-(-len(batch["input_ids"]) // size) for batch in BATCHES)
    assert stream.most == min(in_flight, most_parts)
    worker.worker.close(token)


@pytest.mark.parametrize("labels", Labels)
def test_importance_is_scored_on_the_whole_batch(
    worker: Worker, family: str, labels: Labels
) -> None:
    outcomes, scores, streams = [], [], []
    for size in (0, 2):
        spec = _spec(family, labels, in_flight=2)
        client = load_client(family, CUT, keeps_labels=labels is Labels.CLIENT)
        token = worker.worker.open(spec)
        stream = Counted(TRANSPORTS["in-process"](worker, token, WireType.FLOAT32))
        streams.append(stream)
        local_round = LocalRound(client, {}, spec, stream, micro_batch_size=size)
        outcomes.append(local_round.train([Batch(**BATCHES[0])] * 2, probe=True))
        scores.append(worker.worker.collect(token).importance)
        worker.worker.close(token)
    assert outcomes[0].importance == outcomes[1].importance
    assert scores[0] == scores[1]
    sent = [r.num_micro_batches for r in streams[1].requests if isinstance(r, Forward)]
    assert sent == [1, 3, 3, 3]


@pytest.mark.parametrize("labels", Labels)
def test_of_a_batch_that_no_message_has_room_for_importance_is_that_of_a_part(
    worker: Worker, family: str, labels: Labels
) -> None:
    """Of that with the most targets, in the gradient of the whole batch; the step is the same."""
    rows = BATCHES[0]
    most = {name: tensor[2:4] for name, tensor in rows.items()}
    fewer = {name: torch.cat([tensor[4:], tensor[:2]]) for name, tensor in rows.items()}
    fewer["labels"][:, 4:] = IGNORED
    whole = {name: torch.cat([fewer[name], most[name]]) for name in rows}
    scores, sent, trained = [], [], []
    for batch, size, limit in ((most, 0, math.inf), (whole, 2, 100), (whole, 0, math.inf)):
        spec = _spec(family, labels, in_flight=2)
        client = load_client(family, CUT, keeps_labels=labels is Labels.CLIENT)
        token = worker.worker.open(spec)
        stream = Counted(TRANSPORTS["in-process"](worker, token, WireType.FLOAT32))
        local_round = LocalRound(client, {}, spec, stream, None, size, limit)
        outcome = local_round.train([Batch(**batch)], probe=True)
        result = worker.worker.collect(token)
        scores.append({**outcome.importance, **result.importance})
        trained.append({**outcome.updates, **result.updates})
        sent.append([r.num_micro_batches for r in stream.requests if isinstance(r, Forward)])
        worker.worker.close(token)
    assert sent == [[1], [3, 3, 3], [1]]
    share = count_label_tokens(most["labels"]) / count_label_tokens(whole["labels"])
    assert scores[1] == pytest.approx({n: share * one for n, one in scores[0].items()}, rel=1e-4)
    for name, update in trained[1].items():
        assert_same(update.b, trained[2][name].b, name)


@pytest.mark.parametrize("labels", Labels)
def test_evaluation_in_micro_batches_has_the_same_loss(
    worker: Worker, family: str, labels: Labels
) -> None:
    losses = []
    for size in (0, 2):
        spec = SessionSpec(client=0, cut=CUT, labels=labels, in_flight=3, train=False)
        client = load_client(family, CUT, keeps_labels=labels is Labels.CLIENT)
        token = worker.worker.open(spec)
        with closing(Counted(TRANSPORTS["grpc"](worker, token, WireType.FLOAT32))) as stream:
            local_round = LocalRound(
                client, below(family, CUT), spec, stream, micro_batch_size=size
            )
            losses.append(local_round.evaluate([Batch(**batch) for batch in BATCHES]).loss)
        assert not any(isinstance(request, Backward) for request in stream.requests)
        assert stream.most == (3 if size else 1)
        worker.worker.close(token)
    assert losses[0].num_tokens == losses[1].num_tokens
    assert losses[0].loss_sum == pytest.approx(losses[1].loss_sum, rel=1e-5)


@pytest.mark.parametrize(
    ("size", "wanted"), [(0, [6]), (6, [6]), (9, [6]), (4, [4, 2]), (1, [1] * 6)]
)
def test_a_batch_is_cut_by_rows(size: int, wanted: list[int]) -> None:
    batch = Batch(**BATCHES[0])
    parts = batch.in_micro_batches(size)
    assert [part.num_examples for part in parts] == wanted
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(batch, name))
