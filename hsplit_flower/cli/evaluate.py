"""``hsplit evaluate``: the texts that a base with an adapter writes for a data set, and scores."""

from pathlib import Path
from typing import Annotated

import click
import typer

from .evaluation_order import BeamOptions, EvaluationOrder

SPLITS = ("test", "dev")

Adapter = Annotated[
    Path, typer.Option(help="Folder of a PEFT adapter, or of a run, whose adapter is taken then.")
]
Dataset = Annotated[
    str, typer.Option(help="restaurants (built in), a folder of mr,ref CSVs, or a hub id.")
]
Split = Annotated[
    str, typer.Option(click_type=click.Choice(SPLITS), help="Which part of the data set.")
]
Base = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The base: llama-tiny (built in), a folder, or a hub id.",
        show_default="the adapter's own",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        help="How an input is put to the model: plain or brackets.",
        show_default="the run's own where there is a run, else plain",
    ),
]
Beam = Annotated[int, typer.Option(min=1, help="Texts that are followed at a time for each input.")]
LengthPenalty = Annotated[
    float,
    typer.Option(
        help="Texts compete by log-likelihood divided by length to this power: more favours long "
        "texts."
    ),
]
NoRepeat = Annotated[
    int,
    typer.Option(
        min=0, help="Let so many tokens in a row occur once at most, prompt included; 0 lets all."
    ),
]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Tokens of a text at most.")]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Inputs at a time; each takes the memory of its beams.")
]
NumExamples = Annotated[
    int | None,
    typer.Option(
        min=1, help="Take at most so many inputs, evenly from all.", show_default="all inputs"
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where the model runs, as cpu or cuda.", show_default="a GPU if there is one"
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder for hypotheses.jsonl and evaluation.json; what is there goes on.",
        show_default="evaluation-SPLIT in the adapter's folder, or in the run's",
    ),
]
NoMetrics = Annotated[
    bool,
    typer.Option("--no-metrics", help="Measure perplexity and write texts, and score none."),
]
_PLAIN = BeamOptions()


def command(
    adapter: Adapter,
    dataset: Dataset,
    split: Split = "test",
    model: Base = None,
    prompt: Prompt = None,
    beam: Beam = _PLAIN.num_beams,
    length_penalty: LengthPenalty = _PLAIN.length_penalty,
    no_repeat_ngram: NoRepeat = _PLAIN.no_repeat_ngram,
    max_new_tokens: MaxNewTokens = _PLAIN.max_new_tokens,
    batch_size: BatchSize = 16,
    num_examples: NumExamples = None,
    device: Device = None,
    out: Out = None,
    no_metrics: NoMetrics = False,
) -> None:
    """Have a base with an adapter write texts, and score them.

    Each distinct input of a split is written for once, by beam search, and compared with all of its
    references. Prints perplexity, BLEU, NIST, METEOR, ROUGE-L and CIDEr. Interrupted and started
    again, it goes on where it stopped. The metrics need the extra nlg and Java.
    """
    order = EvaluationOrder(
        adapter=adapter,
        dataset=dataset,
        split=split,
        model=model,
        prompt=prompt,
        num_examples=num_examples,
        beam=BeamOptions(
            num_beams=beam,
            length_penalty=length_penalty,
            no_repeat_ngram=no_repeat_ngram,
            max_new_tokens=max_new_tokens,
        ),
        batch_size=batch_size,
        device=device,
        out=out,
        with_metrics=not no_metrics,
    )
    # These bring torch, for which neither help nor a mistyped option need wait.
    from .evaluation_report import print_report
    from .make_evaluation import make_evaluation

    print_report(make_evaluation(order))
