"""The command line: ``hsplit plan``, ``hsplit worker`` and ``hsplit demo``."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence

from ..errors import HSplitError
from . import demo, plan, worker


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error of ours is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(
        prog="hsplit",
        description="HSplitLoRA on Flower: fine-tune a language model split by devices.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    plan.add_parser(commands)
    worker.add_parser(commands)
    demo.add_parser(commands)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Asked to end, leave by the door: what was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        status: int = options.run(options)
    except HSplitError as error:
        print(f"hsplit: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"hsplit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hsplit: interrupted; what was started has been stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    return status
