"""An adapter put on its base, measured, made to write, and scored."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data import batches, pad_token_id
from ..metrics import NlgItem, TokenLoss, check_metrics, nlg_scores, token_loss
from ..splitting import load_tokenizer
from ..splitting.quantisation import numbers_text
from .adapter_source import AdapterSource, check_device, read_adapter_source
from .beam_search import BeamSearch, most_positions
from .evaluated_split import EvaluatedSplit, read_split
from .evaluation_order import EvaluationOrder
from .evaluation_report import EvaluationReport
from .hypotheses_file import HYPOTHESES_FILE, HypothesesFile

# For models whose configuration says no length.
LONGEST_EXAMPLE = 4096


def make_evaluation(order: EvaluationOrder) -> EvaluationReport:
    """Look at everything that may be wrong, then measure, write and score.

    Raises
    ------
    AdapterError
        If there is no adapter, or it does not fit its base.
    ConfigError
        If an option is wrong, or the folder holds texts of other settings.
    DataError
        If the data set cannot be read.
    MetricsUnavailableError
        If the metrics are asked for and cannot be computed here.
    """
    source = read_adapter_source(order.adapter, model=order.model, prompt=order.prompt)
    device = check_device(order.device)
    if order.with_metrics:
        check_metrics()
    tokenizer = load_tokenizer(source.base.name, revision=source.base.revision or None)
    positions = most_positions(source.checkpoint.config())
    evaluated = read_split(
        order.dataset,
        order.split,
        tokenizer,
        style=source.prompt,
        max_length=source.sequence_length or positions or LONGEST_EXAMPLE,
        most_inputs=order.num_examples,
    )
    settings = _settings(order, source)
    hypotheses = HypothesesFile(order.folder / HYPOTHESES_FILE, settings)
    model = source.load(device)
    with _bar() as bar:
        loss = _loss(model, evaluated, order.batch_size, pad_token_id(tokenizer), bar)
        search = BeamSearch(model, tokenizer, order.beam)
        _write_texts(search, evaluated, hypotheses, order.batch_size, bar)
    texts = {text: hypotheses[text] for text in evaluated.references}
    report = EvaluationReport(
        folder=order.folder,
        settings=settings,
        num_inputs=len(texts),
        num_references=evaluated.num_references,
        num_empty=sum(not text for text in texts.values()),
        num_examples=len(evaluated.encoded),
        loss=loss,
        scores=nlg_scores(list(_items(texts, evaluated))) if order.with_metrics else None,
    )
    report.write()
    return report


def _settings(order: EvaluationOrder, source: AdapterSource) -> dict[str, Any]:
    """All that decides which text is written; batches and device do so by rounding only."""
    return {
        "adapter": source.fingerprint(),
        "base": source.base.name,
        "revision": source.base.revision,
        "dtype": numbers_text(source.base.computes_in, source.base.quantised),
        "dataset": order.dataset,
        "split": order.split,
        "prompt": source.prompt,
        "beam": order.beam.num_beams,
        "length-penalty": order.beam.length_penalty,
        "no-repeat-ngram": order.beam.no_repeat_ngram,
        "max-new-tokens": order.beam.max_new_tokens,
    }


@torch.no_grad()
def _loss(
    model: Any, evaluated: EvaluatedSplit, batch_size: int, pad_id: int, bar: Progress
) -> TokenLoss:
    """The summed loss over all references, each with its prompt."""
    # The order changes no sum, and equal lengths side by side need little filling up.
    encoded = sorted(evaluated.encoded, key=len)
    task = bar.add_task("measuring perplexity", total=len(encoded))
    total = TokenLoss()
    for batch in batches(encoded, batch_size, pad_id=pad_id):
        ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        total += token_loss(logits, batch["labels"].to(model.device))
        bar.advance(task, len(ids))
    return total


def _write_texts(
    search: BeamSearch,
    evaluated: EvaluatedSplit,
    hypotheses: HypothesesFile,
    batch_size: int,
    bar: Progress,
) -> None:
    """Write a text for each input that has none, and each batch down as it ends."""
    task = bar.add_task("writing texts", total=len(evaluated.prompts))
    for batch in evaluated.input_batches(batch_size):
        missing = [text for text in batch if text not in hypotheses]
        if missing:
            written = search.texts([evaluated.prompts[text] for text in missing])
            hypotheses.add(dict(zip(missing, written, strict=True)))
        bar.advance(task, len(batch))


def _items(texts: Mapping[str, str], evaluated: EvaluatedSplit) -> Iterable[NlgItem]:
    for text, hypothesis in texts.items():
        yield NlgItem(hypothesis=hypothesis, references=evaluated.references[text])


def _bar() -> Progress:
    """On stderr: what is printed at the end stands alone on stdout."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
