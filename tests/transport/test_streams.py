"""What every stream to a worker keeps, whatever carries it: one suite, run for each transport."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from hsplit_flower.errors import (
    AuthenticationError,
    CodecError,
    NonFiniteError,
    TransportError,
    WorkerRejectedError,
)
from hsplit_flower.settings import SessionSpec
from hsplit_flower.transport.streams import Stream
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.codec import FLOATING
from hsplit_flower.wire.messages import Backward, Forward, Gradient, LastHidden, Loss
from tests.families import fields
from tests.rounds import ranks
from tests.workers import Worker, in_process, over_grpc, running_worker

FAMILY = "llama"
SPEC = SessionSpec(client=0, cut=2, ranks=ranks(FAMILY), learning_rate=1e-2)
AT_CLIENT = SPEC.replace(labels=Labels.CLIENT)
BATCH = fields("right")


def _forward(step: int, *, with_labels: bool = True, seed: int = 0, width: int = 16) -> Forward:
    generator = torch.Generator().manual_seed(seed)
    return Forward(
        step=step,
        hidden=torch.randn(3, 9, width, generator=generator),
        labels=BATCH["labels"] if with_labels else None,
        attention_mask=BATCH["attention_mask"],
    )


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with running_worker(FAMILY) as running:
        yield running


class StreamContract(ABC):
    """What holds for any stream; a subclass says how one is made."""

    @abstractmethod
    def connect(self, worker: Worker, token: str, wire_type: WireType) -> Stream:
        """A stream to the session of ``token``."""

    def _open(self, worker: Worker, spec: SessionSpec) -> "closing[Stream]":
        return closing(self.connect(worker, worker.worker.open(spec), spec.wire_type))

    def test_it_is_a_stream(self, worker: Worker) -> None:
        with self._open(worker, SPEC) as stream:
            assert isinstance(stream, Stream)

    def test_a_step_is_answered_with_loss_and_gradient(self, worker: Worker) -> None:
        with self._open(worker, SPEC) as stream:
            reply = stream.exchange(_forward(1))
        assert isinstance(reply, Loss)
        assert reply.step == 1
        assert reply.loss_sum > 0
        assert reply.num_tokens == int((BATCH["labels"][:, 1:] >= 0).sum())
        assert reply.gradient is not None
        assert reply.gradient.shape == (3, 9, 16)

    def test_labels_at_the_client_take_two_exchanges(self, worker: Worker) -> None:
        with self._open(worker, AT_CLIENT) as stream:
            last = stream.exchange(_forward(1, with_labels=False))
            assert isinstance(last, LastHidden)
            back = stream.exchange(Backward(step=1, gradient=torch.ones_like(last.hidden)))
        assert isinstance(back, Gradient)
        assert back.gradient.shape == (3, 9, 16)
        assert back.step == 1

    def test_evaluation_has_no_gradient(self, worker: Worker) -> None:
        with self._open(worker, SPEC.replace(train=False)) as stream:
            reply = stream.exchange(replace(_forward(1), train=False))
        assert isinstance(reply, Loss)
        assert reply.gradient is None

    @pytest.mark.parametrize("wire_type", WireType)
    def test_the_wire_type_holds_in_both_directions(
        self, worker: Worker, wire_type: WireType
    ) -> None:
        dtype = FLOATING.get(wire_type, torch.float32)
        with self._open(worker, SPEC.replace(wire_type=wire_type)) as stream:
            reply = stream.exchange(_forward(1))
        assert isinstance(reply, Loss)
        assert reply.gradient is not None
        assert reply.gradient.dtype == dtype

    def test_several_may_be_on_their_way_and_are_answered_in_order(self, worker: Worker) -> None:
        parts = [
            replace(
                _forward(1, seed=index),
                micro_batch=index,
                num_micro_batches=3,
                total_tokens=3 * int((BATCH["labels"][:, 1:] >= 0).sum()),
            )
            for index in range(3)
        ]
        with self._open(worker, SPEC.replace(in_flight=3)) as stream:
            one_by_one = [stream.exchange(part) for part in parts]
        with self._open(worker, SPEC.replace(in_flight=3)) as stream:
            for part in parts:
                stream.send(part)
            together = [stream.receive() for _ in parts]
        assert [reply.micro_batch for reply in together] == [0, 1, 2]
        for got, wanted in zip(together, one_by_one, strict=True):
            assert torch.equal(got.gradient, wanted.gradient)

    def test_nothing_is_received_that_was_not_asked_for(self, worker: Worker) -> None:
        with self._open(worker, SPEC) as stream:
            with pytest.raises(TransportError, match="no request waits for a reply"):
                stream.receive()
            stream.exchange(_forward(1))
            with pytest.raises(TransportError, match="no request waits for a reply"):
                stream.receive()

    def test_a_repeated_step_is_answered_again_and_not_applied_again(self, worker: Worker) -> None:
        once, twice = worker.worker.open(SPEC), worker.worker.open(SPEC)
        with (
            closing(self.connect(worker, once, WireType.FLOAT32)) as plain,
            closing(self.connect(worker, twice, WireType.FLOAT32)) as repeating,
        ):
            for step in (1, 2, 3):
                wanted = plain.exchange(_forward(step, seed=step))
                got = [repeating.exchange(_forward(step, seed=step)) for _ in range(3)]
                assert all(torch.equal(reply.gradient, wanted.gradient) for reply in got)
                assert {reply.loss_sum for reply in got} == {wanted.loss_sum}
        results = worker.worker.collect(once), worker.worker.collect(twice)
        assert results[0].num_steps == results[1].num_steps == 3
        for name, update in results[0].updates.items():
            assert torch.equal(update.b, results[1].updates[name].b)

    def test_the_session_outlives_its_stream(self, worker: Worker) -> None:
        token = worker.worker.open(SPEC)
        for step in (1, 2, 3):
            with closing(self.connect(worker, token, WireType.FLOAT32)) as stream:
                assert stream.exchange(_forward(step)).step == step
        assert worker.worker.collect(token).num_steps == 3

    @pytest.mark.parametrize("token", ["", "wrong", "a" * 43])
    def test_a_wrong_token_is_refused(self, worker: Worker, token: str) -> None:
        with (
            closing(self.connect(worker, token, WireType.FLOAT32)) as stream,
            pytest.raises(AuthenticationError, match="token is missing, wrong, or its session"),
        ):
            stream.exchange(_forward(1))

    def test_the_token_of_a_closed_session_is_refused(self, worker: Worker) -> None:
        token = worker.worker.open(SPEC)
        worker.worker.close(token)
        with (
            closing(self.connect(worker, token, WireType.FLOAT32)) as stream,
            pytest.raises(AuthenticationError, match="closed or timed out"),
        ):
            stream.exchange(_forward(1))

    @pytest.mark.parametrize(
        ("request_", "error", "message"),
        [
            (_forward(2), WorkerRejectedError, "step 2 is out of turn: step 1 is next"),
            (_forward(1, width=15), CodecError, "hidden states of width 15: 16 is wanted"),
            (_forward(1, with_labels=False), CodecError, "labels are absent"),
            (
                replace(_forward(1), hidden=torch.ones(9, 16)),
                CodecError,
                r"\[9, 16\]: \[batch, seq",
            ),
            (
                replace(_forward(1), hidden=torch.full((3, 9, 16), torch.nan)),
                NonFiniteError,
                "hidden state is not finite",
            ),
        ],
    )
    def test_a_refused_request_is_said_why_and_the_stream_goes_on(
        self, worker: Worker, request_: Forward, error: type[Exception], message: str
    ) -> None:
        with self._open(worker, SPEC) as stream:
            with pytest.raises(error, match=message):
                stream.exchange(request_)
            assert stream.exchange(_forward(1)).step == 1

    def test_streams_of_several_threads_do_not_mix(self, worker: Worker) -> None:
        replies: dict[int, list[float]] = {}

        def talk(seed: int) -> None:
            with self._open(worker, SPEC) as stream:
                replies[seed] = [
                    stream.exchange(_forward(step, seed=seed)).loss_sum for step in range(1, 5)
                ]

        talk(0)
        alone = replies.pop(0)
        threads = [threading.Thread(target=talk, args=(seed,)) for seed in (0, 1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Requests that wait together may share a pass, which rounds in another order.
        assert replies[0] == pytest.approx(alone, rel=1e-5)
        assert len({tuple(losses) for losses in replies.values()}) == 3


class TestInProcess(StreamContract):
    """Through the same bytes, without a network."""

    def connect(self, worker: Worker, token: str, wire_type: WireType) -> Stream:
        return in_process(worker, token, wire_type)


class TestGrpc(StreamContract):
    """Over the loopback."""

    def connect(self, worker: Worker, token: str, wire_type: WireType) -> Stream:
        return over_grpc(worker, token, wire_type)


def test_a_new_transport_must_say_how_it_connects() -> None:
    class Incomplete(StreamContract):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Incomplete()
