"""The profile of the machine that this process runs on, measured."""

import time
from functools import lru_cache
from pathlib import Path

import psutil
import torch

from ..types import DeviceProfile

# Large enough to keep the machine busy, small enough that a slow CPU is done in a moment.
MATRIX_WIDTH = {"cpu": 384, "cuda": 2048}
MEASURING_SECONDS = 0.03
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USE = Path("/sys/fs/cgroup/memory.current")
CGROUP_STAT = Path("/sys/fs/cgroup/memory.stat")
# What the kernel has of files and gives back as soon as somebody wants memory.
RECLAIMABLE = "inactive_file"


def machine_profile(
    device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> DeviceProfile:
    """Free memory and speed of a device here, with a link that takes no time.

    Parameters
    ----------
    device
        A CPU or CUDA device; the first CUDA device if there is one, else the CPU, if None.
    dtype
        Of the model that is to run there: bfloat16 may be several times as fast, or as slow.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return DeviceProfile(
        memory_bytes=available_bytes(chosen),
        flops_per_second=measured_flops(str(chosen), dtype),
    )


def available_bytes(device: torch.device) -> float:
    """Free memory: of the card, or of the host within the limit of its container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free)
    host = float(psutil.virtual_memory().available)
    limit, used = _read_bytes(CGROUP_LIMIT), _read_bytes(CGROUP_USE)
    if limit is None or used is None:
        return host
    return max(1.0, min(host, limit - used + _reclaimable_bytes()))


@lru_cache
def measured_flops(device: str, dtype: torch.dtype) -> float:
    """Operations per second of matrix products, measured once in a process."""
    width = MATRIX_WIDTH.get(torch.device(device).type, MATRIX_WIDTH["cpu"])
    with torch.no_grad():
        matrix = torch.ones(width, width, device=device, dtype=dtype)
        product = torch.empty_like(matrix)
        # Libraries and kernels are loaded by the first call.
        torch.mm(matrix, matrix, out=product)
        _wait_for(device)
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < MEASURING_SECONDS:
            torch.mm(matrix, matrix, out=product)
            _wait_for(device)
            count += 1
        seconds = time.perf_counter() - started
    return 2.0 * width**3 * count / seconds


def _wait_for(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _reclaimable_bytes() -> float:
    """What of a container's use is file cache: a checkpoint that was just read is in it."""
    try:
        lines = CGROUP_STAT.read_text(encoding="ascii").splitlines()
        return float(dict(line.split() for line in lines)[RECLAIMABLE])
    except (OSError, ValueError, KeyError):
        return 0.0


def _read_bytes(path: Path) -> float | None:
    """A number of bytes from a control file; None where there is no file or no limit."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
