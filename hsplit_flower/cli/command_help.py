"""The help of a command: each option's name on a line, and below it what it means, unbroken."""

from textwrap import fill

import click
from typer.core import TyperCommand

INDENT = 6


class DescribedCommand(TyperCommand):
    """A command whose help fits a narrow terminal, whatever its options are called.

    Rich's own help has five columns, of which 80 characters leave too few to read, and cuts names
    off; click's breaks names at their dashes.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names as they are typed, and the sentences wrapped between words only."""
        with formatter.section("Options"):
            for param in self.get_params(ctx):
                # Arguments are in the usage, and the command's own text says what they are.
                if isinstance(param, click.Argument):
                    continue
                if (record := param.get_help_record(ctx)) is None:
                    continue
                names, text = record
                formatter.write(f"  {click.style(names, bold=True)}\n")
                # What typer adds is escaped for rich, which does not print it here.
                formatter.write(_below(text.replace("\\[", "["), formatter.width))


def _below(text: str, width: int) -> str:
    indent = " " * INDENT
    return (
        fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
        + "\n"
    )
