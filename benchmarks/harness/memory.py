"""Peak memory of a piece of work, taken in a process that did nothing else before.

Read from ``/proc``, so on Linux only. ``getrusage`` will not do: its peak is inherited from the
process that started this one.
"""

import importlib
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Resident memory before a piece of work, and the most that it reached; what it returned."""

    baseline_bytes: int
    peak_bytes: int
    result: Any

    @property
    def growth_bytes(self) -> int:
        """By how much the work raised the peak."""
        return self.peak_bytes - self.baseline_bytes


@dataclass(frozen=True, kw_only=True)
class ProcessUse:
    """What a process has at a moment."""

    resident_bytes: int
    num_threads: int
    num_descriptors: int


def use_of(process_id: int) -> ProcessUse:
    """What another process of this machine has now."""
    process = Path(f"/proc/{process_id}")
    return ProcessUse(
        resident_bytes=_status_bytes(process, "VmRSS"),
        num_threads=_status(process, "Threads"),
        num_descriptors=len(list((process / "fd").iterdir())),
    )


def run_in_fresh_process(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """What a function returns when a new interpreter runs it; its exception is raised here.

    Function, arguments and result cross by pickling, so the function must be a module's own.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


def peak_memory_of(
    function: Callable[..., Any],
    *args: Any,
    imports: Sequence[str] = (),
    warm_up: Callable[[], object] | None = None,
) -> MemoryUse:
    """How much resident memory a function needs, in a fresh process.

    ``imports`` names the modules that are imported before the baseline is taken; the function's
    own module always is. ``warm_up`` is called there before the baseline, too.
    """
    return run_in_fresh_process(_measured, function, args, tuple(imports), warm_up)


def _measured(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    imports: tuple[str, ...],
    warm_up: Callable[[], object] | None,
) -> MemoryUse:
    for name in imports:
        importlib.import_module(name)
    if warm_up is not None:
        warm_up()
    # Sets the peak (VmHWM) back to what is resident now.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    own = Path("/proc/self")
    baseline_bytes = _status_bytes(own, "VmRSS")
    result = function(*args)
    return MemoryUse(
        baseline_bytes=baseline_bytes, peak_bytes=_status_bytes(own, "VmHWM"), result=result
    )


def _status_bytes(process: Path, field: str) -> int:
    return _status(process, field) * 1024  # the kernel says kB and means KiB


def _status(process: Path, field: str) -> int:
    for line in (process / "status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise RuntimeError(f"{process}/status has no {field}: this cannot be measured here")
