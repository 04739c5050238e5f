"""``hsplit data``: what a run would learn of a file of conversations, before any run."""

import inspect
from typing import Annotated

import typer

from ..settings import Chat, Model, Settings, Training, setting
from .field_option import OtherDefault
from .options import Chosen, Offer, Options

FORMAT = (
    "What a row is: messages (roles), prompt and completion, instruction (input) and output, or "
    "text."
)


class Shown(Settings):
    """What of the rows is shown as it is."""

    example: int = setting(
        1,
        "Which of the rows that are kept is shown, with what is learnt of it in colour; only on a "
        "terminal. 0 shows none.",
        ge=0,
    )


OPTIONS = Options(
    Offer(
        group=Model,
        fields=("name", "revision"),
        names={"name": ("--model",)},
        sentences={
            "name": "The model that is to learn, of which the tokenizer alone is loaded: the "
            "built-in llama-tiny, a folder, or a hub id; with HF_HUB_OFFLINE=1 in the environment "
            "the hub is never asked.",
        },
        required=("name",),
    ),
    Offer(
        group=Training,
        fields=("sequence_length",),
        sentences={
            "sequence_length": "Most tokens of a row, as training.sequence-length says in a run."
        },
    ),
    Offer(
        group=Chat,
        fields=("format", "columns", "learn", "on_long"),
        defaults={"format": OtherDefault(value=None, reason="what the columns tell")},
        sentences={
            "format": FORMAT,
            "on_long": "What becomes of longer rows in a run: they are left out (drop), their end "
            "is cut off (truncate), or they end it (error).",
        },
    ),
    Offer(group=Shown),
)
FILE = inspect.Parameter(
    "file",
    inspect.Parameter.KEYWORD_ONLY,
    annotation=Annotated[str, typer.Argument(metavar="FILE")],
)


def show(chosen: Chosen, file: str) -> None:
    """Show what a run would learn of a file of conversations.

    FILE is JSON Lines, JSON, CSV or Parquet, the id of a data set on the hub, or help-desk, which
    is built in. Says how many rows there are, how long they are in the model's tokens, what of them
    is learnt and which are too long. Rows that cannot be read are named by their lines. Nothing is
    trained or sent.
    """
    # These bring torch, for which neither help nor a mistyped option need wait.
    from .data_report import print_report
    from .read_data import read_data

    print_report(read_data(file, chosen), chosen[Shown].example)


command = OPTIONS.command(show, FILE)
