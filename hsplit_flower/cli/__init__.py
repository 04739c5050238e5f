"""The command line: ``hsplit`` with ``new``, ``plan``, ``worker``, ``demo`` and others."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

import click
import typer

from ..errors import DataError, HSplitError
from . import (
    centralised,
    certificates,
    data,
    demo,
    evaluate,
    export,
    generate,
    new,
    plan,
    report,
    settings_table,
    worker,
)
from .command_help import DescribedCommand

app = typer.Typer(
    name="hsplit",
    help="HSplitLoRA on Flower: fine-tune a language model split by devices.",
    epilog="Each command says more: hsplit plan --help",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # Click suggests the nearest command itself.
    suggest_commands=False,
)
app.command("new", cls=DescribedCommand)(new.command)
app.command("data", cls=DescribedCommand)(data.command)
app.command("plan", cls=DescribedCommand, epilog=plan.EPILOG)(plan.command)
app.command("worker", cls=DescribedCommand)(worker.command)
app.command("certificates", cls=DescribedCommand)(certificates.command)
app.command("demo", cls=DescribedCommand)(demo.command)
app.command("export", cls=DescribedCommand)(export.command)
app.command("report", cls=DescribedCommand)(report.command)
app.command("centralised", cls=DescribedCommand)(centralised.command)
app.command("evaluate", cls=DescribedCommand)(evaluate.command)
app.command("generate", cls=DescribedCommand)(generate.command)
app.command("settings", cls=DescribedCommand)(settings_table.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status.

    An error of ours is one message on stderr and exit status 1; a command line that cannot be read
    is told with its usage, and exit status 2.
    """
    # Asked to end, leave by the door: what was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    _show_our_log()
    command = typer.main.get_command(app)
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        with command.make_context("hsplit", given) as context:
            command.invoke(context)
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except typer.Exit as ended:
        return ended.exit_code
    except BrokenPipeError:
        # Who reads our output has read enough, as head does; nor is the rest to be tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (HSplitError, OSError) as error:
        print(f"hsplit: {error}", file=sys.stderr)
        if isinstance(error, DataError) and error.private_detail and sys.stderr.isatty():
            # Only where it is needed: neither help nor a usual end need wait for it.
            from ..wire.error_text import one_line

            print(f"hsplit: found there: {one_line(error.private_detail)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        # On a terminal ^C stands on the line already, or half of a text.
        begin = "\n" if sys.stderr.isatty() else ""
        left = f"; {interrupt}" if str(interrupt) else ""
        print(f"{begin}hsplit: interrupted{left}", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _show_our_log() -> None:
    """Show what this package logs; other libraries show their own, and would do so twice."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger(__package__.partition(".")[0])
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
