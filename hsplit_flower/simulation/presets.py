"""Fleets by name.

``homogeneous`` and ``heterogeneous`` give memory as a share of what the whole model would need to
be trained unsplit, so that they mean the same for every model. The others are real sizes.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..settings.device import BYTES_PER_MEGABIT, GIGABYTE
from ..types import DeviceProfile
from .device import Device

HOMOGENEOUS_SHARE = 0.6
LOWEST_SHARE, HIGHEST_SHARE = 0.25, 1.0

# A device that could hold the whole model, just: a laptop's GPU on a home connection.
FLOPS_PER_SECOND = 4e12
UP_BYTES_PER_SECOND = 50e6 / 8
DOWN_BYTES_PER_SECOND = 200e6 / 8
ROUND_TRIP_SECONDS = 0.02
# Of the split worker, in devices of the above.
WORKER_SPEED = 3.0
# Links of the heterogeneous preset are up to this much slower or faster.
LINK_SPREAD = 2.0

# The fleet of HSplitLoRA's evaluation (arXiv 2505.02795): memory only is given there. Speed is set
# to what bfloat16 training reaches on a desktop GPU of that memory.
PAPER_LEAST_GB, PAPER_MOST_GB = 5.0, 20.0
PAPER_FLOPS_PER_SECOND_AND_GB = 2e12

# What an operating system and a desktop take of memory that CPU and GPU share.
SYSTEM_GB = 2.0


@dataclass(frozen=True, kw_only=True)
class FleetRequest:
    """What a preset may look at: how many devices, for which model, drawn from which seed."""

    num_devices: int
    whole_model_bytes: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Link:
    """A connection: rates in 10⁶ bits per second, round trip in milliseconds."""

    up_mbps: float
    down_mbps: float
    rtt_ms: float


# Ookla's Speedtest Global Index. Fixed and mobile: means of all countries, September 2020. 5G:
# world medians of the third quarter of 2021, with the mobile latency of November 2022.
FIXED = Link(up_mbps=45.74, down_mbps=85.73, rtt_ms=21.0)
MOBILE = Link(up_mbps=11.22, down_mbps=35.96, rtt_ms=40.0)
FIFTH_GENERATION = Link(up_mbps=21.08, down_mbps=166.13, rtt_ms=28.0)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A product's memory and arithmetic as its maker states them, on a typical link.

    ``flops_per_second`` is the peak of the CUDA cores in float32, ``2 · cores · clock``. Tensor
    cores can do more than that in 16 bits, and no training reaches a peak: it is a middle.
    """

    name: str
    memory_gb: float
    cores: int
    clock_ghz: float
    link: Link
    shares_memory: bool = False

    @property
    def flops_per_second(self) -> float:
        return 2.0 * self.cores * self.clock_ghz * 1e9

    def device(self) -> Device:
        """The device that it is, less the memory that its system needs."""
        free_gb = self.memory_gb - (SYSTEM_GB if self.shares_memory else 0.0)
        return Device(
            name=self.name,
            profile=DeviceProfile(
                memory_bytes=free_gb * GIGABYTE,
                flops_per_second=self.flops_per_second,
                up_bytes_per_second=self.link.up_mbps * BYTES_PER_MEGABIT,
                down_bytes_per_second=self.link.down_mbps * BYTES_PER_MEGABIT,
                round_trip_seconds=self.link.rtt_ms / 1e3,
            ),
        )


# Jetsons: NVIDIA's module data sheets (Orin Nano 8GB before its "Super" clocks). Laptops: NVIDIA's
# GeForce laptop specifications, the lower end of the boost clock that makers may choose.
JETSONS_AND_LAPTOPS = (
    Gpu(
        name="Jetson Orin Nano 8GB",
        memory_gb=8,
        cores=1024,
        clock_ghz=0.625,
        link=MOBILE,
        shares_memory=True,
    ),
    Gpu(
        name="RTX 3060 Laptop 6GB", memory_gb=6, cores=3840, clock_ghz=1.283, link=FIFTH_GENERATION
    ),
    Gpu(
        name="Jetson Orin NX 16GB",
        memory_gb=16,
        cores=1024,
        clock_ghz=0.918,
        link=FIFTH_GENERATION,
        shares_memory=True,
    ),
    Gpu(name="RTX 4060 Laptop 8GB", memory_gb=8, cores=3072, clock_ghz=1.47, link=FIXED),
    Gpu(
        name="Jetson AGX Orin 64GB",
        memory_gb=64,
        cores=2048,
        clock_ghz=1.3,
        link=FIXED,
        shares_memory=True,
    ),
    Gpu(name="RTX 4090 Laptop 16GB", memory_gb=16, cores=9728, clock_ghz=1.455, link=FIXED),
)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A fleet by name: its devices, how many there are unless asked for otherwise, its worker."""

    devices: Callable[[FleetRequest], list[Device]]
    num_devices: int
    worker_flops_per_second: float


def _homogeneous(request: FleetRequest) -> list[Device]:
    return share_devices(
        [HOMOGENEOUS_SHARE] * request.num_devices, request.whole_model_bytes, seed=request.seed
    )


def _heterogeneous(request: FleetRequest) -> list[Device]:
    step = (HIGHEST_SHARE - LOWEST_SHARE) / max(1, request.num_devices - 1)
    shares = [LOWEST_SHARE + step * index for index in range(request.num_devices)]
    return share_devices(shares, request.whole_model_bytes, seed=request.seed)


def _paper(request: FleetRequest) -> list[Device]:
    generator = random.Random(request.seed)
    sizes = [generator.uniform(PAPER_LEAST_GB, PAPER_MOST_GB) for _ in range(request.num_devices)]
    return [
        Device(
            profile=DeviceProfile(
                memory_bytes=gigabytes * GIGABYTE,
                flops_per_second=gigabytes * PAPER_FLOPS_PER_SECOND_AND_GB,
                up_bytes_per_second=UP_BYTES_PER_SECOND,
                down_bytes_per_second=DOWN_BYTES_PER_SECOND,
                round_trip_seconds=ROUND_TRIP_SECONDS,
            )
        )
        for gigabytes in sizes
    ]


def _jetsons_and_laptops(request: FleetRequest) -> list[Device]:
    known = [gpu.device() for gpu in JETSONS_AND_LAPTOPS]
    return [known[index % len(known)] for index in range(request.num_devices)]


PRESETS: Mapping[str, Preset] = {
    "homogeneous": Preset(
        devices=_homogeneous,
        num_devices=5,
        worker_flops_per_second=WORKER_SPEED * FLOPS_PER_SECOND,
    ),
    "heterogeneous": Preset(
        devices=_heterogeneous,
        num_devices=5,
        worker_flops_per_second=WORKER_SPEED * FLOPS_PER_SECOND,
    ),
    "paper-llama2-7b": Preset(
        devices=_paper,
        num_devices=5,
        worker_flops_per_second=WORKER_SPEED * PAPER_MOST_GB * PAPER_FLOPS_PER_SECOND_AND_GB,
    ),
    "jetson-and-laptops": Preset(
        devices=_jetsons_and_laptops,
        num_devices=len(JETSONS_AND_LAPTOPS),
        worker_flops_per_second=WORKER_SPEED
        * max(gpu.flops_per_second for gpu in JETSONS_AND_LAPTOPS),
    ),
}


def share_devices(shares: list[float], whole_model_bytes: float, *, seed: int) -> list[Device]:
    """Devices by their share of what the whole model needs.

    Speed and link follow memory: who has twice the memory computes twice as fast. Links differ from
    device to device unless the devices are all alike.
    """
    is_alike = len(set(shares)) == 1
    generator = random.Random(seed)
    return [
        _of_share(share, whole_model_bytes, 1.0 if is_alike else _spread(generator))
        for share in shares
    ]


def _of_share(share: float, whole_model_bytes: float, link: float) -> Device:
    return Device(
        profile=DeviceProfile(
            memory_bytes=share * whole_model_bytes,
            flops_per_second=share * FLOPS_PER_SECOND,
            up_bytes_per_second=link * UP_BYTES_PER_SECOND,
            down_bytes_per_second=link * DOWN_BYTES_PER_SECOND,
            round_trip_seconds=ROUND_TRIP_SECONDS / link,
        )
    )


def _spread(generator: random.Random) -> float:
    """A factor between ``1 / LINK_SPREAD`` and ``LINK_SPREAD``, evenly in its logarithm."""
    return float(LINK_SPREAD ** generator.uniform(-1.0, 1.0))
