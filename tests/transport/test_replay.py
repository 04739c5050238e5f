"""A stream breaks, the worker's service restarts: no step is lost or doubled."""

import threading
import time
from concurrent.futures import Future, wait
from contextlib import closing

import pytest
import torch

from hsplit_flower.client import LocalRound
from hsplit_flower.settings import SessionSpec
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.messages import Reply, Request
from hsplit_flower.worker import SplitWorker
from hsplit_flower.worker.service import serve
from tests.transport.one_session import BATCHES, FAMILY, SPEC, free_port
from tests.workers import PATIENT, load_client, load_worker, running_worker, split_worker


class Interrupted:
    """A worker whose service is torn down at chosen requests, before or after they are handled.

    A thread of its own stops the service, waits until the client has lost its stream, and serves
    the same worker again on the same port.
    """

    def __init__(self, worker: SplitWorker, moments: dict[int, str]) -> None:
        self._worker = worker
        self._moments = moments
        self._count = 0
        self._answer = worker.submit
        worker.submit = self._submit
        self.port = free_port()
        self._server, _ = serve(worker, host="127.0.0.1", port=self.port)
        self._restarts: list[threading.Thread] = []

    def _submit(self, token: str | None, request: Request) -> "Future[Reply]":
        self._count += 1
        moment = self._moments.pop(self._count, None)
        # Whoever waits for it is cut off.
        lost: Future[Reply] = Future()
        if moment == "before":
            self._tear_down()
            return lost
        reply = self._answer(token, request)
        if moment == "after":
            wait([reply])
            self._tear_down()
            return lost
        return reply

    def _tear_down(self) -> None:
        """Called inside a handler, whose stream is cut at once."""
        self._server.stop(grace=None)
        restart = threading.Thread(target=self._serve_again)
        self._restarts.append(restart)
        restart.start()

    def _serve_again(self) -> None:
        time.sleep(0.05)
        self._server, _ = serve(self._worker, host="127.0.0.1", port=self.port)

    def stop(self) -> int:
        """End it; how many requests came in all."""
        for restart in self._restarts:
            restart.join()
        self._server.stop(grace=None).wait()
        assert not self._moments, "not every interruption took place"
        return self._count


def _train(
    worker: SplitWorker, spec: SessionSpec, address: str, micro_batch_size: int = 0
) -> dict[str, torch.Tensor]:
    """Loss and trained factors of four steps."""
    token = worker.open(spec)
    client = load_client(FAMILY, spec.cut, keeps_labels=spec.labels is Labels.CLIENT)
    with closing(GrpcStream(address, token, WireType.FLOAT32, PATIENT)) as stream:
        local_round = LocalRound(client, {}, spec, stream, micro_batch_size=micro_batch_size)
        outcome = local_round.train(BATCHES, probe=True)
    result = worker.collect(token)
    worker.close(token)
    assert result.num_steps == len(BATCHES)
    seen = {"loss": torch.tensor(outcome.loss.loss_sum, dtype=torch.float64)}
    for name, update in {**outcome.updates, **result.updates}.items():
        seen |= {f"{name}.b": update.b, f"{name}.a": update.a}
    for name, score in {**outcome.importance, **result.importance}.items():
        seen[name] = torch.tensor(score)
    return seen


@pytest.mark.parametrize("labels", Labels)
def test_a_stream_that_breaks_is_replayed_and_nothing_is_applied_twice(labels: Labels) -> None:
    """Interruptions before and after a request is handled, and in both halves of a step."""
    spec = SPEC.replace(labels=labels)
    with running_worker(FAMILY) as running:
        wanted = _train(running.worker, spec, running.address)
    worker = split_worker(load_worker(FAMILY))
    interrupted = Interrupted(worker, {2: "after", 4: "before", 6: "after"})
    try:
        got = _train(worker, spec, f"127.0.0.1:{interrupted.port}")
    finally:
        num_requests = interrupted.stop()
        worker.stop()
    assert num_requests == len(BATCHES) * (2 if labels is Labels.CLIENT else 1) + 3
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.one_in(3)
def test_a_stream_that_breaks_with_several_on_the_wire_is_replayed_in_order(
    labels: Labels, moment: str
) -> None:
    """Wherever it breaks in a step, each micro-batch's gradient is counted in once."""
    spec = SPEC.replace(labels=labels, in_flight=3)
    with running_worker(FAMILY) as running:
        wanted = _train(running.worker, spec, running.address, micro_batch_size=1)
    worker = split_worker(load_worker(FAMILY))
    interrupted = Interrupted(worker, {3: moment, 6: moment, 9: moment})
    try:
        got = _train(worker, spec, f"127.0.0.1:{interrupted.port}", micro_batch_size=1)
    finally:
        interrupted.stop()
        worker.stop()
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)
