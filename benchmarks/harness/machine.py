"""On what a figure was taken: the machine, the versions that matter, the commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
DISTRIBUTIONS: Final = (
    "hsplit-flower",
    "torch",
    "transformers",
    "peft",
    "flwr",
    "flwr-datasets",
    "ray",
    "grpcio",
    "numpy",
    "safetensors",
)


def machine() -> dict[str, Any]:
    """Cores that this process may use, processor, memory, and the GPUs that torch sees."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "gpus": _gpus(),
    }


def versions() -> dict[str, str | None]:
    """Version of Python and of each distribution that a figure may depend on; None if absent."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for distribution in DISTRIBUTIONS:
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            found[distribution] = None
    return found


def commit() -> str | None:
    """The commit measured, with ``-dirty`` when files differ from it; None outside a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _gpus() -> list[dict[str, Any]]:
    # Imported here: what measures memory must not find torch loaded already.
    import torch

    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in found]
