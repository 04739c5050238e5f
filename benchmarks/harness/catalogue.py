"""Which benchmarks there are: the modules of the package, each with a ``BENCHMARK``.

Names come from the file names alone, so that asking for one imports no other.
"""

import importlib
import pkgutil
from typing import Final

from benchmarks.harness.figures import Benchmark

PACKAGE: Final = "benchmarks"


def benchmark_names(package: str = PACKAGE) -> list[str]:
    """The names of all benchmarks: ``half_loading.py`` is called half-loading."""
    folder = importlib.import_module(package).__path__
    modules = [found.name for found in pkgutil.iter_modules(folder) if not found.ispkg]
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def load_benchmark(name: str, package: str = PACKAGE) -> Benchmark:
    """The benchmark of this name, imported now.

    Raises
    ------
    TypeError
        The module has no ``BENCHMARK``, or one under another name.
    """
    module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
    benchmark = getattr(module, "BENCHMARK", None)
    if not isinstance(benchmark, Benchmark):
        raise TypeError(f"{module.__name__} needs a BENCHMARK = Benchmark(...), got {benchmark!r}")
    if benchmark.name != name:
        raise TypeError(f"{module.__name__} holds benchmark {benchmark.name!r}, wanted {name!r}")
    return benchmark
