"""The command line ``python -m benchmarks``."""

import signal
import sys

from benchmarks.harness.command import main

if __name__ == "__main__":
    # Asked to end, a benchmark ends what it has started, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
