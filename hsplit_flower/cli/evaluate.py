"""``hsplit evaluate``: how well a base with an adapter does on a data set."""

import inspect
from pathlib import Path
from typing import Annotated

import click
import typer

from ..settings import Chat, Training
from .data import FORMAT
from .evaluation_order import BeamOptions, EvaluationOrder
from .field_option import OtherDefault
from .field_text import default_text
from .options import Chosen, Offer, Options

SPLITS = ("test", "dev", "held-out", "all")

Adapter = Annotated[
    Path, typer.Option(help="Folder of a PEFT adapter, or of a run, whose adapter is taken then.")
]
Dataset = Annotated[
    str,
    typer.Option(
        help="Inputs with references: restaurants (built in), or a folder of mr,ref CSVs. Or "
        "conversations: help-desk (built in), or a .jsonl, .ndjson, .json, .csv or .parquet file. "
        "Or a hub id, of whichever the adapter's run had."
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        click_type=click.Choice(SPLITS),
        help="Which part of the data set: test or dev of inputs with references; of conversations "
        "those that a run holds out (held-out), or all.",
        show_default="test, and held-out of conversations",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The base: llama-tiny (built in), a folder, or a hub id.",
        show_default="the adapter's own",
    ),
]
Personal = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a client's own adapter, which goes on top of --adapter: the one that the "
        "client has trained after that run, and kept.",
        show_default="none",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        help="How an input with references is put to the model: plain or brackets.",
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
    int,
    typer.Option(
        min=1, help="Inputs, or conversations, at a time; an input takes the memory of its beams."
    ),
]
NumExamples = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Take at most so many inputs, or conversations, evenly from all.",
        show_default="all of them",
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
        help="Folder for evaluation.json and, of inputs, hypotheses.jsonl, which is gone on from "
        "where it is there.",
        show_default="evaluation-SPLIT in the adapter's folder, or in the run's",
    ),
]
NoMetrics = Annotated[
    bool,
    typer.Option("--no-metrics", help="Measure perplexity and write texts, and score none."),
]
_PLAIN = BeamOptions()
_AS_THE_RUN = "as in the adapter's run, else"


def evaluate(
    chosen: Chosen,
    *,
    adapter: Adapter,
    dataset: Dataset,
    split: Split = None,
    model: Base = None,
    personal_adapter: Personal = None,
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
    """Measure a base with an adapter on a data set; interrupted, it goes on where it stopped.

    Of conversations the perplexity of the answers is printed. Of inputs with references each
    distinct input is written for once, by beam search, and compared with all of its references:
    BLEU, NIST, METEOR, ROUGE-L and CIDEr, which need the extra nlg and Java, are printed, too.
    """
    order = EvaluationOrder(
        adapter=adapter,
        dataset=dataset,
        split=split,
        model=model,
        personal=personal_adapter,
        prompt=prompt,
        num_examples=num_examples,
        chat=chosen[Chat],
        training=chosen[Training],
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
    # Neither help nor a mistyped option need wait for torch.
    from .make_evaluation import make_evaluation

    make_evaluation(order).print()


def _else(name: str) -> str:
    """What a setting of conversations is where no run says it."""
    return "what the columns tell" if name == "format" else default_text(Chat.default_of(name))


CHAT_FIELDS = ("format", "columns", "learn", "on_long", "held_out_share")
OPTIONS = Options(
    Offer(
        group=Chat,
        fields=CHAT_FIELDS,
        defaults={
            name: OtherDefault(value=None, reason=f"{_AS_THE_RUN} {_else(name)}")
            for name in CHAT_FIELDS
        },
        sentences={
            "format": f"Of conversations. {FORMAT}",
            "learn": "What is measured of a conversation: the assistant's answers, the last-answer "
            "alone, or everything; of a text it is always everything.",
            "on_long": "What becomes of longer conversations: they are left out (drop), their end "
            "is cut off (truncate), or they are an error.",
            "held_out_share": "About so much of a set of conversations is what --split held-out "
            "measures on; a checksum of the text says which.",
        },
    ),
    Offer(
        group=Training,
        fields=("sequence_length",),
        defaults={
            "sequence_length": OtherDefault(
                value=None, reason=f"{_AS_THE_RUN} as many as the base has positions"
            )
        },
        sentences={"sequence_length": "Most tokens of a conversation."},
    ),
)
command = OPTIONS.command(
    evaluate,
    *(
        one
        for one in inspect.signature(evaluate).parameters.values()
        if one.kind is inspect.Parameter.KEYWORD_ONLY
    ),
)
