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

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import final

import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.tools.calibration import calibrate
from benchmarks.tools.clock_batches import BATCHES, ROWS, SEQUENCE, Draw
from benchmarks.tools.shaped_link import Link, shaped, sleep_until
from benchmarks.tools.slowed_fleet import (
    CLIENT_FACTORS,
    DOWN_MBPS,
    MAX_RANK,
    MODEL,
    RTT_MS,
    UP_MBPS,
    WORKER_FACTOR,
    Speeds,
    fleet_text,
    serving_worker,
)
from benchmarks.tools.threads import ThreadGrid
from hsplit_flower.client.app import describe_device, split_train
from hsplit_flower.server import RoundReport
from hsplit_flower.settings import Client, Planning, Sampling, Simulation, Training
from hsplit_flower.strategies import HSplitLoRA
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, Instructions

WITHIN = Target("<=", 0.15)
PATIENCE_SECONDS = 120.0


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
        yield Detail(
            name=f"rounds of {kind}", value=[report.record().to_dict() for report in reports]
        )
    yield Detail(name="factors", value={"clients": CLIENT_FACTORS, "worker": WORKER_FACTOR})


def slowed_run(
    speeds: Speeds, scratch: Path, draw: Draw, *, num_rounds: int, num_steps: int
) -> tuple[list[float], list[RoundReport]]:
    """Real seconds of each round's steps on such batches, and the strategy's own reports."""
    fleet = scratch / "fleet.toml"
    fleet.write_text(fleet_text(speeds), encoding="utf-8")
    reports: list[RoundReport] = []
    worker = serving_worker()
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
            planning=Planning(max_rank=MAX_RANK),
            sampling=Sampling(
                fraction_evaluate=0.0,
                min_train_nodes=len(CLIENT_FACTORS),
                min_available_nodes=len(CLIENT_FACTORS),
            ),
            client=Client(enforce_budgets=False),
            simulation=Simulation(fleet=str(fleet)),
            running_worker=worker,
            observer=reports.append,
        )
        nodes = {
            100 + number: {"partition-id": number, "num-partitions": len(CLIENT_FACTORS)}
            for number in range(len(CLIENT_FACTORS))
        }
        grid = stack.enter_context(ThreadGrid(run.app(), nodes))
        strategy.start(grid, num_rounds=num_rounds)
    if not all(report.completed for report in reports):
        raise RuntimeError(f"a round was not completed: {[r.record().to_dict() for r in reports]}")
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
            given = Instructions.from_config(msg.content.config_records[INSTRUCTIONS_KEY])
            over_link = given.replace(address=self._addresses[number])
            msg.content[INSTRUCTIONS_KEY] = ConfigRecord(over_link.to_config())
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


BENCHMARK = Benchmark(
    name="simulated-clock",
    summary="Predicted seconds of a round against real ones, on devices slowed by known factors.",
    measure=measure,
)
