"""The command line: ``hsplit plan``, ``hsplit worker`` and ``hsplit demo``."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence

from ..errors import HSplitError
from . import demo, plan, worker


def build_parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(
        prog="hsplit",
        description="HSplitLoRA on Flower: fine-tune a language model split by devices.",
        epilog="Each command says more: hsplit plan --help",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    plan.add_parser(commands)
    worker.add_parser(commands)
    demo.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error of ours is one line on stderr and exit status 1."""
    options = build_parser().parse_args(arguments)
    _show_our_log()
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


def _show_our_log() -> None:
    """Show what this package logs; other libraries show their own, and would do so twice."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger(__package__.partition(".")[0])
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
