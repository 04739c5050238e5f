"""Is a round as long as the simulated clock says? Against real clients that are slowed.

Four clients and a split worker in one process train llama-tiny over real gRPC streams. Each device
is slower than this machine by a known factor, each link has a known rate and latency; the round's
real seconds run from the first step of any client to the end of the last. What the prediction knows
of the machine is measured before, by other steps at another cut: how many operations a second one
thread does in the client's half, and in the worker's.

Left out on both sides are loading and the message with the adapter. The run's budgets are not
enforced: counting living tensors is this machine's way to measure, not the devices'. A first round
is not compared, in which memory is first touched and code first run.

There are two runs: one of full batches, for which everything is exact, and one of batches as text
makes them, padded each to its own longest row, of which the clock knows how many tokens they were.
The machine is calibrated for each with batches of its mean length: on small ones it does fewer
operations a second.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor

from benchmarks._shaped_link import Link, shaped, sleep_until
from benchmarks._slowed import SlowedWorker
from benchmarks._threads import ThreadGrid
from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from hsplit_flower.client.app import describe_device, split_train
from hsplit_flower.client.batch import Batch
from hsplit_flower.client.local_round import LocalRound
from hsplit_flower.costs import PartSeconds, Workload, part_seconds, trace_costs
from hsplit_flower.server import RoundReport
from hsplit_flower.settings import PlanSettings, Training
from hsplit_flower.splitting import Checkpoint, Parts, load_half, read_architecture
from hsplit_flower.strategies import HSplitLoRA
from hsplit_flower.transport.streams import Stream
from hsplit_flower.types import (
    IGNORED_LABEL,
    ClientPlan,
    DeviceProfile,
    Labels,
    SessionSpec,
    Span,
    Start,
)
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY
from hsplit_flower.wire.messages import Forward, Loss, Reply, Request
from hsplit_flower.worker.service import serve

MODEL = "llama-tiny"
ROWS, SEQUENCE = 8, 64
# The longest row of an unequal batch: two thirds of what is planned for, as with real text.
SHORTEST_LONGEST = 22
MAX_RANK = 8
# How many times slower than one thread of this machine: all together use a quarter of a core, so
# that none has to wait for one.
CLIENT_FACTORS = (24.0, 32.0, 48.0, 64.0)
WORKER_FACTOR = 8.0
UP_MBPS, DOWN_MBPS, RTT_MS = (10.0, 15.0, 8.0, 20.0), (40.0, 50.0, 20.0, 45.0), 40.0
CALIBRATION_CUT = 4
WITHIN = Target("<=", 0.15)
PATIENCE_SECONDS = 120.0
# A slowed device rests between its steps, and finds its caches cold: so it does when calibrated.
PAUSE_SECONDS = 0.3


def measure(settings: Settings) -> Iterable[Figure | Detail]:
    """Calibrate, train slowed devices, and compare each round."""
    num_rounds, num_steps, calibrations = (1, 3, 16) if settings.quick else (3, 10, 40)
    torch.set_num_threads(1)
    torch.manual_seed(settings.seeds[0])
    for kind, batches in BATCHES.items():
        speeds = calibrate(calibrations, batches.mean_length)
        for half, speed in (("a client's", speeds.client), ("the worker's", speeds.worker)):
            yield Figure(
                name=f"{kind}: operations of {half} thread", value=speed / 1e9, unit="GFLOP/s"
            )
        real, reports = slowed_run(
            speeds, settings.scratch, batches.draw, num_rounds=1 + num_rounds, num_steps=num_steps
        )
        # The first round warms up.
        real, reports = real[1:], reports[1:]
        predicted = [report.simulated.seconds for report in reports]
        yield Figure.of_repeats(f"{kind}: seconds of a round, predicted", predicted, "s")
        yield Figure.of_repeats(f"{kind}: seconds of a round, real", real, "s")
        ratios = [guess / truth for guess, truth in zip(predicted, real, strict=True)]
        yield Figure.of_repeats(f"{kind}: predicted / real", ratios, "ratio")
        worst = max(abs(ratio - 1.0) for ratio in ratios)
        yield Figure(
            name=f"{kind}: largest difference of any round",
            value=worst,
            unit="relative",
            target=WITHIN,
        )
        yield Detail(name=f"rounds of {kind}", value=[report.to_dict() for report in reports])
    yield Detail(name="factors", value={"clients": CLIENT_FACTORS, "worker": WORKER_FACTOR})


def full_batch(generator: torch.Generator, length: int = SEQUENCE) -> dict[str, Tensor]:
    """Rows of random tokens, all of this length; by default as long as planned for."""
    tokens = torch.randint(3, 2048, (ROWS, length), generator=generator)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": tokens.clone(),
    }


def unequal_batch(generator: torch.Generator) -> dict[str, Tensor]:
    """Rows of many lengths, padded on the right to the longest, which is different each time."""

    def draw(least: int, most: int, count: int = 1) -> Tensor:
        return torch.randint(least, most + 1, (count,), generator=generator)

    longest = int(draw(SHORTEST_LONGEST, SEQUENCE))
    lengths = torch.cat([torch.tensor([longest]), draw(longest // 2, longest, ROWS - 1)])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    tokens = full_batch(generator, longest)["input_ids"] * mask
    labels = tokens.masked_fill(mask == 0, IGNORED_LABEL)
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


Draw = Callable[[torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """What all clients of a run train on, and how long its padded rows are in the mean."""

    draw: Draw
    mean_length: int


BATCHES = {
    "full batches": Batches(draw=full_batch, mean_length=SEQUENCE),
    "unequal batches": Batches(draw=unequal_batch, mean_length=(SHORTEST_LONGEST + SEQUENCE) // 2),
}


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Operations that this machine's threads do in a second of processor time."""

    client: float
    worker: float


def calibrate(num_steps: int, length: int) -> Speeds:
    """How fast one thread is in either half: medians of steps at one cut, nobody slowed."""
    workload = Workload(batch_size=ROWS, sequence_length=length)
    costs = trace_costs(Checkpoint(source=MODEL).config(), workload)
    ranks = {weight.name: MAX_RANK for weight in costs.weights}
    part = ClientPlan(span=Span(start=0, stop=CALIBRATION_CUT), ranks=ranks)
    one = DeviceProfile(memory_bytes=1.0, flops_per_second=1.0)
    flops: PartSeconds = part_seconds(
        costs, part, profile=one, worker=one, labels=Labels.SERVER, start=Start.CONTINUE
    )
    spec = SessionSpec(client=0, cut=CALIBRATION_CUT, ranks=ranks)
    return Speeds(
        client=flops.compute_seconds / _client_step_seconds(spec, num_steps, length),
        worker=flops.worker_seconds / _worker_step_seconds(spec, num_steps, length),
    )


def slowed_run(
    speeds: Speeds, scratch: Path, draw: Draw, *, num_rounds: int, num_steps: int
) -> tuple[list[float], list[RoundReport]]:
    """Real seconds of each round's steps on such batches, and the strategy's own reports."""
    fleet = scratch / "fleet.toml"
    fleet.write_text(_fleet(speeds), encoding="utf-8")
    reports: list[RoundReport] = []
    worker = _worker()
    with ExitStack() as stack:
        stack.callback(worker.stop)
        links = [
            Link(
                round_trip_seconds=RTT_MS / 1e3,
                up_bits_per_second=up * 1e6,
                down_bits_per_second=down * 1e6,
            )
            for up, down in zip(UP_MBPS, DOWN_MBPS, strict=True)
        ]
        addresses = [stack.enter_context(shaped(worker.address, link)) for link in links]
        run = _Run(addresses, draw, num_steps)
        strategy = HSplitLoRA(
            MODEL,
            Training(batch_size=ROWS, sequence_length=SEQUENCE),
            planning=PlanSettings(max_rank=MAX_RANK),
            fleet=str(fleet),
            enforce_budgets=False,
            worker=worker,
            observer=reports.append,
            fraction_evaluate=0.0,
            min_train_nodes=len(CLIENT_FACTORS),
            min_available_nodes=len(CLIENT_FACTORS),
        )
        nodes = {
            100 + number: {"partition-id": number, "num-partitions": len(CLIENT_FACTORS)}
            for number in range(len(CLIENT_FACTORS))
        }
        grid = stack.enter_context(ThreadGrid(run.app(), nodes))
        strategy.start(grid, num_rounds=num_rounds)
    if not all(report.completed for report in reports):
        raise RuntimeError(f"a round was not completed: {[r.to_dict() for r in reports]}")
    return run.seconds, reports


@final
class _Run:
    """The clients of a run: each takes its steps as slowly as its device, all start together."""

    def __init__(self, addresses: list[str], draw: Draw, num_steps: int) -> None:
        self._addresses = addresses
        self._draw = draw
        self._num_steps = num_steps
        # transformers cannot load two models at a time in one process.
        self._loading = threading.Lock()
        self._started = 0.0
        self._start = threading.Barrier(len(addresses), action=self._begin)
        self._end = threading.Barrier(len(addresses), action=self._finish)
        self.seconds: list[float] = []

    def app(self) -> ClientApp:
        """A ClientApp as anybody would write it, but for its pace."""
        app = ClientApp()

        @app.query()
        def query(msg: Message, context: Context) -> Message:
            return describe_device(msg, context, num_examples=1)

        @app.train()
        def train(msg: Message, context: Context) -> Message:
            number = int(context.node_config["partition-id"])
            order = msg.content.config_records[INSTRUCTIONS_KEY]
            msg.content[INSTRUCTIONS_KEY] = ConfigRecord(
                {**order, "address": self._addresses[number]}
            )
            self._loading.acquire()
            return split_train(msg, context, self._paced(number))

        return app

    def _paced(self, number: int) -> Iterator[Mapping[str, Tensor]]:
        """Batches; the half is loaded when the first is asked for."""
        self._loading.release()
        self._start.wait(PATIENCE_SECONDS)
        generator = torch.Generator().manual_seed(number)
        for _ in range(self._num_steps):
            batch = self._draw(generator)
            began, used = time.perf_counter(), time.thread_time()
            yield batch
            used = time.thread_time() - used
            # What the thread did not use it waited for, on its link and the worker: that is over.
            waited = max(0.0, time.perf_counter() - began - used)
            sleep_until(began + waited + CLIENT_FACTORS[number] * used)
        self._end.wait(PATIENCE_SECONDS)

    def _begin(self) -> None:
        self._started = time.perf_counter()

    def _finish(self) -> None:
        self.seconds.append(time.perf_counter() - self._started)


@final
class _Echo(Stream):
    """Answers every step at once, so that a client's own time is all that there is."""

    def __init__(self, length: int) -> None:
        self._gradient = 1e-3 * torch.randn(ROWS, length, 128)
        self._step = 0

    def send(self, request: Request) -> None:
        self._step = request.step

    def receive(self) -> Reply:
        return Loss(step=self._step, loss_sum=1.0, num_tokens=1, gradient=self._gradient)

    def close(self) -> None:
        """Nothing is held open."""


def _client_step_seconds(spec: SessionSpec, num_steps: int, length: int) -> float:
    """Processor time of a step of the client's half."""
    half = load_half(MODEL, Parts.of_client(spec.cut, keeps_labels=False))
    used: list[float] = []

    def batches() -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(num_steps):
            batch = Batch(**full_batch(generator, length))
            time.sleep(PAUSE_SECONDS)
            began = time.thread_time()
            yield batch
            used.append(time.thread_time() - began)

    LocalRound(half, {}, spec, _Echo(length)).train(batches(), probe=False)
    return _settled(used)


def _worker_step_seconds(spec: SessionSpec, num_steps: int, length: int) -> float:
    """Processor time of a step of the worker's half, on its own thread."""
    worker = _worker()
    generator = torch.Generator().manual_seed(0)
    used: list[float] = []
    try:
        worker.load_update({})
        token = worker.open(spec)
        for step in range(1, num_steps + 1):
            fields = full_batch(generator, length)
            hidden = torch.randn(ROWS, length, 128, generator=generator)
            request = Forward(
                step=step,
                hidden=hidden,
                labels=fields["labels"],
                attention_mask=fields["attention_mask"],
            )
            time.sleep(PAUSE_SECONDS)
            used.append(worker.used_seconds(token, request))
    finally:
        worker.stop()
    return _settled(used)


def _settled(seconds: list[float]) -> float:
    """The median, without the steps in which memory is taken and code is warmed up."""
    return statistics.median(seconds[len(seconds) // 4 :])


def _worker() -> SlowedWorker:
    """A worker that listens on a port of its own."""
    architecture = read_architecture(Checkpoint(source=MODEL).config())
    half = load_half(MODEL, Parts.of_worker(1, architecture.num_blocks))
    worker = SlowedWorker(half, model=MODEL, memory_bytes=8e9, flops_per_second=1e9)
    worker.factor = WORKER_FACTOR
    server, port = serve(worker, host="127.0.0.1", port=0)
    worker.attach_server(server, f"127.0.0.1:{port}")
    return worker


def _fleet(speeds: Speeds) -> str:
    """The slowed devices as a fleet file; memory enough for every cut."""
    tables = [
        f"[[device]]\nmemory-gb = 4\nflops = {speeds.client / factor}\nup-mbps = {up}\n"
        f"down-mbps = {down}\nrtt-ms = {RTT_MS}\n"
        for factor, up, down in zip(CLIENT_FACTORS, UP_MBPS, DOWN_MBPS, strict=True)
    ]
    worker = f"[worker]\nmemory-gb = 8\nflops = {speeds.worker / WORKER_FACTOR}\n"
    return "\n".join([*tables, worker])


BENCHMARK = Benchmark(
    name="simulated-clock",
    summary="Predicted seconds of a round against real ones, on devices slowed by known factors.",
    measure=measure,
)
