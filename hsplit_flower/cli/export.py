"""``hsplit export``: another adapter of a run that is over, or its base with the adapter in it."""

from pathlib import Path
from typing import Annotated

import click
import typer

from .export_order import ExportOrder
from .selection import Selection

DTYPES = ("float32", "bfloat16", "float16")

Run = Annotated[Path, typer.Argument(metavar="RUN")]
Rank = Annotated[
    int | None,
    typer.Option(
        help="Keep so many directions of every weight, its largest.",
        show_default="the run's own adapter",
    ),
]
Energy = Annotated[
    float | None,
    typer.Option(
        help="Keep this share of the squared norm of all weights together, as 0.999, in the fewest "
        "directions; the file is padded to the highest rank.",
        show_default="the run's own adapter",
    ),
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Keep all that was learnt, what was held back included.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the adapter.",
        show_default="one in RUN named after what is kept; none with --merge-into",
    ),
]
MergeInto = Annotated[
    Path | None,
    typer.Option(
        help="Write the whole base with the adapter added to its weights to this folder, which "
        "must be new or empty; sums are made in float32 and rounded once.",
        show_default="no model is written",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        click_type=click.Choice(DTYPES),
        help="Type of the numbers that are written.",
        show_default="in an adapter the smallest that holds them, the base's own in a model",
    ),
]
Evaluate = Annotated[
    str | None,
    typer.Option(
        metavar="DATASET",
        help="Measure perplexity, as the run did, on the dev set of restaurants or of a folder of "
        "mr,ref CSVs, on what is held out of help-desk or of a file of conversations, or on a hub "
        "id's of whichever the run had.",
        show_default="nothing is measured",
    ),
]
EvaluationExamples = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Measure on at most so many examples.",
        show_default="as many as the run did, or 500",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an adapter that is there already.")
]


def command(
    run: Run,
    rank: Rank = None,
    energy: Energy = None,
    exact: Exact = False,
    out: Out = None,
    merge_into: MergeInto = None,
    dtype: Dtype = None,
    evaluate: Evaluate = None,
    evaluation_examples: EvaluationExamples = None,
    overwrite: Overwrite = False,
) -> None:
    """Write another adapter of a run that is over.

    RUN is the folder that the run has left. A run sends, and writes, an adapter of bounded size,
    and keeps what it held back beside it. From both, other adapters are made: smaller ones, larger
    ones, or the base with the adapter in its weights. Says what each keeps of all that was learnt.
    """
    order = ExportOrder(
        run=run,
        selection=Selection(rank=rank, energy=energy, exact=exact),
        out=out,
        merge_into=merge_into,
        dtype=dtype,
        dataset=evaluate,
        num_examples=evaluation_examples,
        may_overwrite=overwrite,
    )
    # These bring torch, for which neither help nor a mistyped option need wait.
    from .export_tables import print_export
    from .make_export import make_export

    print_export(make_export(order))
