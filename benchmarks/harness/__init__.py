"""One way to measure, for all benchmarks: what a figure is, how it is taken, shown and kept."""

from benchmarks.harness.figures import Benchmark as Benchmark
from benchmarks.harness.figures import Detail as Detail
from benchmarks.harness.figures import Figure as Figure
from benchmarks.harness.figures import Settings as Settings
from benchmarks.harness.figures import Spread as Spread
from benchmarks.harness.figures import Target as Target
from benchmarks.harness.memory import MemoryUse as MemoryUse
from benchmarks.harness.memory import peak_memory_of as peak_memory_of
from benchmarks.harness.memory import run_in_fresh_process as run_in_fresh_process
from benchmarks.harness.timing import interleave as interleave
