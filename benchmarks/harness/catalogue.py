"""Which benchmarks there are: the modules of the package, each with a ``BENCHMARK``.

One that takes several files is a package with a module ``benchmark``. Names come from the file
names alone, so that asking for one imports no other.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import Final

from benchmarks.harness.figures import Benchmark

PACKAGE: Final = "benchmarks"


def benchmark_names(package: str = PACKAGE) -> list[str]:
    """The names of all benchmarks: ``half_loading.py`` is called half-loading."""
    folder = importlib.import_module(package).__path__
    modules = [
        found.name
        for found in pkgutil.iter_modules(folder)
        if not found.ispkg or _entry(package, found.name)
    ]
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def load_benchmark(name: str, package: str = PACKAGE) -> Benchmark:
    """The benchmark of this name, imported now.

    Raises
    ------
    TypeError
        The module has no ``BENCHMARK``, or one under another name.
    """
    file = name.replace("-", "_")
    module = importlib.import_module(_entry(package, file) or f"{package}.{file}")
    benchmark = getattr(module, "BENCHMARK", None)
    if not isinstance(benchmark, Benchmark):
        raise TypeError(f"{module.__name__} needs a BENCHMARK = Benchmark(...), got {benchmark!r}")
    if benchmark.name != name:
        raise TypeError(f"{module.__name__} holds benchmark {benchmark.name!r}, wanted {name!r}")
    return benchmark


def _entry(package: str, name: str) -> str | None:
    """The module of a package that holds its benchmark, if it is one of several files."""
    full = f"{package}.{name}.benchmark"
    folders = importlib.import_module(package).__path__
    there = any((Path(folder) / name / "benchmark.py").is_file() for folder in folders)
    return full if there else None
