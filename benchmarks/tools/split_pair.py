"""A client and a split worker on one machine, for what is timed between them.

The worker is a process of its own, as it would be, with as many threads as the client. A local
round runs in a thread and takes a step when it is asked for one, so that steps of several can take
turns.
"""

import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, final

import psutil
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.utils import logging as transformers_logging

from hsplit_flower.batches import Batch
from hsplit_flower.client.local_round import LocalRound
from hsplit_flower.settings import Certificates, Model, SessionSpec, Worker
from hsplit_flower.splitting import Half, Parts, load_half
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.freed_memory import keep_freed_memory
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.transport.security import PLAIN, Security
from hsplit_flower.types import Labels
from hsplit_flower.worker.hosting import host_worker

OPERATOR_TOKEN: Final = "a benchmark's operator"
PLAIN_FILES: Final = Certificates()
LIMITS: Final = ChannelSettings(max_message_bytes=2**30, step_timeout_seconds=600.0)


def save_random_model(config: PretrainedConfig, folder: Path, seed: int) -> Path:
    """A checkpoint of this configuration with random weights."""
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@contextmanager
def worker_process(
    model: Path,
    *,
    num_threads: int,
    device: str = "cpu",
    certificates: Certificates = PLAIN_FILES,
) -> Iterator[RemoteWorker]:
    """A split worker that serves every cut of a model from a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    settings = Worker(
        **certificates.given(),
        num_threads=num_threads,
        device=device,
        operator_token=OPERATOR_TOKEN,
    )
    process = context.Process(target=_serve, args=(there, str(model), settings))
    process.start()
    try:
        there.close()
        try:
            address = here.recv()
        except EOFError:
            process.join()
            raise RuntimeError(
                f"the worker's process ended with {process.exitcode} before it listened"
            ) from None
        worker = RemoteWorker(address, OPERATOR_TOKEN, LIMITS, Security.towards(settings))
        yield worker
        worker.stop()
    finally:
        here.close()
        process.join()


def _serve(pipe: Connection, model: str, settings: Worker) -> None:
    # As hsplit worker does, before any thread begins.
    keep_freed_memory()
    worker = host_worker(Model(name=model), settings, max_message_bytes=LIMITS.max_message_bytes)
    pipe.send(worker.address)
    try:
        pipe.recv()
    except EOFError:
        worker.stop()


def cpu_seconds() -> float:
    """What this process and its workers have computed, whoever else had the cores meanwhile."""
    workers = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
    times = [worker.cpu_times() for worker in workers]
    return time.process_time() + float(sum(taken.user + taken.system for taken in times))


def load_client(model: Path, spec: SessionSpec, device: str = "cpu") -> Half:
    """The client's half for a session."""
    parts = Parts.of_client(spec.cut, keeps_labels=spec.labels is Labels.CLIENT)
    return load_half(str(model), parts, device=device)


def full_batch(vocabulary: int, batch: int, sequence: int, seed: int) -> Batch:
    """Random tokens without padding, all of them targets."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (batch, sequence), generator=generator)
    return Batch(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a client reaches the worker: where, in which pieces, and over what."""

    address: str
    micro_batch_size: int = 0
    security: Security = PLAIN


@final
class SteppedRound:
    """A client's local round that takes a step when it is asked to.

    Parameters
    ----------
    worker
        Opens the session.
    half
        The client's, which this round has for itself.
    spec
        The session's settings.
    way
        How the worker is reached.
    batch
        What every step trains on.
    """

    def __init__(
        self, worker: RemoteWorker, half: Half, spec: SessionSpec, way: Way, batch: Batch
    ) -> None:
        self._worker = worker
        self._batch = batch
        self._token = worker.open(spec)
        self._stream = GrpcStream(
            way.address,
            self._token,
            spec.wire_type,
            LIMITS,
            spec.wire_gradient_type,
            way.security,
        )
        self._round = LocalRound(
            half, {}, spec, self._stream, micro_batch_size=way.micro_batch_size
        )
        self._go: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[float | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()

    def step(self) -> float:
        """Take one step; give its seconds."""
        self._go.put(True)
        result = self._done.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """End the round, its stream and its session."""
        self._go.put(False)
        self._thread.join()
        self._stream.close()
        self._worker.close(self._token)

    def _train(self) -> None:
        try:
            self._round.train(self._batches(), probe=False)
        except BaseException as error:
            self._done.put(error)

    def _batches(self) -> Iterator[Batch]:
        while self._go.get():
            started = time.perf_counter()
            yield self._batch
            self._done.put(time.perf_counter() - started)
