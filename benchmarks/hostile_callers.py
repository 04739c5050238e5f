"""An honest session beside callers who mean no good: is it served, soon, and as if it were alone?

The worker is a process of its own that holds the built-in model. Somebody sends it messages without
a token, with a wrong one and with that of a session of their own; lets calls hang; opens streams
and connections on which nothing comes; sends the largest messages that a session can.

Its descriptors are limited, its threads are not: ``RLIMIT_NPROC`` counts those of all processes of
a user, and Linux holds neither root nor a process with ``CAP_SYS_RESOURCE`` to it. So threads are
counted instead.
"""

import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import psutil
import torch

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.tools.hostile import (
    DESCRIBE,
    hanging_calls,
    hostile_message,
    idle_connections,
    many_dimensions,
    many_tokens,
)
from benchmarks.tools.split_pair import LIMITS, worker_process
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Architecture, Checkpoint, read_architecture
from hsplit_flower.transport.credentials import SESSION_TOKEN_KEY
from hsplit_flower.transport.grpc_stream import EXCHANGE, GrpcStream
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.types import WireType
from hsplit_flower.wire.messages import Forward, Loss

MODEL: Final = "llama-tiny"
CUT: Final = 3
NUM_THREADS: Final = 4
NUM_DESCRIPTORS: Final = 1024
SERVED_SECONDS: Final = 2.0
LARGEST_BYTES: Final = 60 * 2**20
FAILED: Final = "the split worker failed"
LOOPBACK: Final = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    messages: int
    steps: int
    hanging: int
    silent: int
    idle: int


FULL: Final = Size(messages=100_000, steps=60, hanging=2500, silent=600, idle=1100)
QUICK: Final = Size(messages=300, steps=6, hanging=100, silent=20, idle=1100)


class Place:
    """A worker, its process, and what an honest client gets from it."""

    def __init__(self, worker: RemoteWorker, steps: int) -> None:
        self.worker = worker
        self.steps = steps
        self.architecture: Architecture = read_architecture(Checkpoint(source=MODEL).config())
        (child,) = multiprocessing.active_children()
        self.process = psutil.Process(child.pid)

    def spec(self, client: int, **changes: object) -> SessionSpec:
        """A session's settings."""
        ranks = {weight.name: 4 for weight in self.architecture.weights}
        spec = SessionSpec(client=client, cut=CUT, ranks=ranks, max_tokens=4096)
        return spec.replace(**changes)

    def losses(self, steps: int | None = None) -> list[float]:
        """What an honest session's steps give."""
        width, vocabulary = self.architecture.hidden_size, self.architecture.vocabulary_size
        generator = torch.Generator().manual_seed(0)
        token = self.worker.open(self.spec(7))
        losses = []
        address = self.worker.address
        with closing(GrpcStream(address, token, WireType.FLOAT32, LIMITS)) as stream:
            for step in range(1, 1 + (steps or self.steps)):
                hidden = torch.randn(4, 24, width, generator=generator)
                labels = torch.randint(0, vocabulary, (4, 24), generator=generator)
                reply = stream.exchange(Forward(step=step, hidden=hidden, labels=labels))
                assert isinstance(reply, Loss)
                losses.append(reply.loss_sum)
        self.worker.close(token)
        return losses

    def served_seconds(self) -> float:
        """How long it takes until an honest client has been served a step."""
        began = time.perf_counter()
        self.losses(1)
        return time.perf_counter() - began

    def memory_mb(self) -> float:
        """What the worker's process holds, once what was just freed has been given back."""
        time.sleep(1.5)
        return float(self.process.memory_info().rss) / 2**20


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Figures of each kind of attack."""
    size = QUICK if settings.quick else FULL
    with worker_process(Path(MODEL), num_threads=1) as worker:
        place = Place(worker, size.steps)
        _flood(place, 200, settings.seeds[0])
        yield from _beside_a_flood(place, size, settings.seeds[0])
        yield from _beside_waiting(place, size)
        yield from _after_the_largest(place)


def _beside_a_flood(place: Place, size: Size, seed: int) -> Iterator[Figure | Detail]:
    alone, memory = place.losses(), place.memory_mb()
    answers: Counter[str] = Counter()
    flood = threading.Thread(
        target=lambda: answers.update(_flood(place, size.messages, seed + 1)), daemon=True
    )
    began = time.perf_counter()
    flood.start()
    distance, num_runs, num_threads = 0.0, 0, 0
    while flood.is_alive() or not num_runs:
        beside = place.losses()
        num_runs += 1
        num_threads = max(num_threads, place.process.num_threads())
        far = (abs(b - a) / a for a, b in zip(alone, beside, strict=True))
        distance = max(distance, *far)
    flood.join()
    seconds = time.perf_counter() - began
    yield Figure(
        name="honest session beside the flood: losses away from alone",
        value=distance,
        unit="1",
        target=Target("<=", 1e-5),
    )
    yield Figure(
        name="memory after the flood / before",
        value=place.memory_mb() / memory,
        unit="1",
        target=Target("<=", 1.05),
    )
    yield Figure(name="threads during the flood", value=num_threads, unit="1")
    foreign = answers[FAILED]
    yield Figure(name="foreign errors", value=foreign, unit="1", target=Target("==", 0))
    yield Figure(name="hostile messages", value=answers.total() / seconds, unit="1/s")
    yield Detail(name="answers", value={**answers, "honest runs": num_runs})


def _flood(place: Place, count: int, seed: int) -> Counter[str]:
    """What became of so many hostile messages, a third of them with a session's token."""
    tokens = [place.worker.open(place.spec(100 + index)) for index in range(NUM_THREADS)]
    answers: Counter[str] = Counter()
    lock = threading.Lock()

    def send(own: str, number: int) -> None:
        rng = random.Random(seed * NUM_THREADS + number)
        width, vocabulary = place.architecture.hidden_size, place.architecture.vocabulary_size
        with grpc.insecure_channel(place.worker.address, options=LOOPBACK) as channel:
            exchange = channel.stream_stream(EXCHANGE)
            for _ in range(count // NUM_THREADS):
                metadata = rng.choice(((), _with("wrong"), _with(own)))
                message = hostile_message(rng, width, vocabulary)
                answer = _answer(exchange, [message], metadata)
                with lock:
                    answers[answer] += 1

    threads = [
        threading.Thread(target=send, args=(token, number)) for number, token in enumerate(tokens)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for token in tokens:
        place.worker.close(token)
    return answers


def _answer(
    exchange: grpc.StreamStreamMultiCallable,
    messages: list[bytes],
    metadata: tuple[tuple[str, str], ...],
) -> str:
    """How a call ends: the status's name, or what is told of an error that is not ours."""
    try:
        list(exchange(iter(messages), metadata=metadata, timeout=60))
    except grpc.RpcError as error:
        return FAILED if FAILED in (error.details() or "") else str(error.code().name)
    return "OK"


def _with(token: str) -> tuple[tuple[str, str], ...]:
    return ((SESSION_TOKEN_KEY, token),)


def _beside_waiting(place: Place, size: Size) -> Iterator[Figure | Detail]:
    address = place.worker.address
    place.process.rlimit(psutil.RLIMIT_NOFILE, (NUM_DESCRIPTORS, NUM_DESCRIPTORS))
    tokens = [
        place.worker.open(place.spec(1000 + index, ranks={}, train=False))
        for index in range(size.silent)
    ]

    def hanging() -> AbstractContextManager[None]:
        return hanging_calls(address, DESCRIBE, [()] * size.hanging)

    def silent() -> AbstractContextManager[None]:
        return hanging_calls(address, EXCHANGE, [_with(token) for token in tokens])

    @contextmanager
    def both() -> Iterator[None]:
        with hanging(), silent():
            yield

    kinds: tuple[tuple[str, Callable[[], AbstractContextManager[None]]], ...] = (
        (f"{size.hanging} hanging calls without a token", hanging),
        (f"{size.silent} silent streams of sessions", silent),
        (f"{size.hanging} such calls and {size.silent} such streams", both),
        (f"{size.idle} idle connections", lambda: idle_connections(address, size.idle)),
    )
    for name, attack in kinds:
        with attack():
            during = place.served_seconds()
            num_threads = place.process.num_threads()
        after = place.served_seconds()
        target = Target("<=", SERVED_SECONDS)
        yield Figure(name=f"{name}: served during", value=during, unit="s", target=target)
        yield Figure(name=f"{name}: served after", value=after, unit="s", target=target)
        yield Figure(name=f"{name}: threads", value=num_threads, unit="1")
    for token in tokens:
        place.worker.close(token)


def _after_the_largest(place: Place) -> Iterator[Figure | Detail]:
    bodies = {
        "many dimensions": many_dimensions(LARGEST_BYTES),
        "many tokens": many_tokens(LARGEST_BYTES, place.architecture.hidden_size),
    }
    for name, body in bodies.items():
        token = place.worker.open(place.spec(2, max_tokens=2**20))
        before = place.memory_mb()
        with grpc.insecure_channel(place.worker.address, options=LOOPBACK) as channel:
            exchange = channel.stream_stream(EXCHANGE)
            answers = Counter(_answer(exchange, [body], _with(token)) for _ in range(5))
        yield Figure(
            name=f"five of the largest, {name}: memory after - before",
            value=place.memory_mb() - before,
            unit="MB",
            target=Target("<=", 50.0),
        )
        yield Detail(name=f"five of the largest, {name}", value=dict(answers))
        place.worker.close(token)


BENCHMARK = Benchmark(
    name="hostile-callers",
    summary="An honest session beside floods, hanging calls and the largest messages.",
    measure=measure,
)
