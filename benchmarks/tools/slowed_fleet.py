"""Devices that are slower than this machine by known factors, and the worker that serves them."""

from dataclasses import dataclass

from benchmarks.tools.slowed import SlowedWorker
from hsplit_flower.settings import Worker
from hsplit_flower.splitting import Checkpoint, Parts, load_half, read_architecture
from hsplit_flower.transport.port_certificates import PortCertificates
from hsplit_flower.worker.service import serve

MODEL = "llama-tiny"
MAX_RANK = 8
# How many times slower than one thread of this machine: all together use a quarter of a core, so
# that none has to wait for one.
CLIENT_FACTORS = (24.0, 32.0, 48.0, 64.0)
WORKER_FACTOR = 8.0
UP_MBPS, DOWN_MBPS, RTT_MS = (10.0, 15.0, 8.0, 20.0), (40.0, 50.0, 20.0, 45.0), 40.0


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Operations that this machine's threads do in a second of processor time."""

    client: float
    worker: float


def serving_worker() -> SlowedWorker:
    """A worker that listens on a port of its own."""
    architecture = read_architecture(Checkpoint(source=MODEL).config())
    half = load_half(MODEL, Parts.of_worker(1, architecture.num_blocks))
    worker = SlowedWorker(half, model=MODEL, memory_bytes=8e9, flops_per_second=1e9)
    worker.factor = WORKER_FACTOR
    server, port = serve(worker, host="127.0.0.1", port=0)
    worker.attach_server(server, PortCertificates(Worker()), f"127.0.0.1:{port}")
    return worker


def fleet_text(speeds: Speeds) -> str:
    """The slowed devices as a fleet file; memory enough for every cut."""
    tables = [
        f"[[device]]\nmemory-gb = 4\nflops = {speeds.client / factor}\nup-mbps = {up}\n"
        f"down-mbps = {down}\nrtt-ms = {RTT_MS}\n"
        for factor, up, down in zip(CLIENT_FACTORS, UP_MBPS, DOWN_MBPS, strict=True)
    ]
    worker = f"[worker]\nmemory-gb = 8\nflops = {speeds.worker / WORKER_FACTOR}\n"
    return "\n".join([*tables, worker])
