"""An adapter put on its base, measured, made to write, and scored."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import Progress

from ..client.text_writer import end_ids_of
from ..data import pad_token_id
from ..errors import ConfigError
from ..metrics import NlgItem, check_metrics, nlg_scores
from ..splitting import load_tokenizer
from .adapter_source import AdapterSource, check_device, read_adapter_source
from .beam_search import BeamSearch, most_positions
from .conversations_evaluation import evaluate_conversations
from .conversations_report import ConversationsReport
from .evaluated_split import EvaluatedSplit, read_split
from .evaluation_order import EvaluationOrder
from .evaluation_report import EvaluationReport
from .held_out_rows import ALL, HELD_OUT, are_conversations
from .hypotheses_file import HYPOTHESES_FILE, HypothesesFile
from .measured_loss import measured_loss, measuring_bar

# For models whose configuration says no length.
LONGEST_EXAMPLE = 4096
SPLITS = ("test", "dev")


def make_evaluation(order: EvaluationOrder) -> EvaluationReport | ConversationsReport:
    """Look at everything that may be wrong, then measure; and write and score where inputs have
    references.

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
    source = read_adapter_source(
        order.adapter, model=order.model, prompt=order.prompt, personal=order.personal
    )
    # An option of conversations says so, too.
    is_asked = order.says_how_to_read or order.split in (HELD_OUT, ALL)
    if are_conversations(order.dataset, otherwise=source.chat is not None or is_asked):
        return evaluate_conversations(order, source)
    return _evaluate_references(order, source)


def _evaluate_references(order: EvaluationOrder, source: AdapterSource) -> EvaluationReport:
    split = order.split or SPLITS[0]
    if split not in SPLITS or order.says_how_to_read:
        raise ConfigError(
            f"{order.dataset!r} holds inputs with references: --split {' or '.join(SPLITS)} is "
            "wanted of these, and none of the options of conversations"
        )
    device = check_device(order.device)
    if order.with_metrics:
        check_metrics()
    tokenizer = load_tokenizer(source.base.name, revision=source.base.revision or None)
    positions = most_positions(source.checkpoint.config())
    evaluated = read_split(
        order.dataset,
        split,
        tokenizer,
        style=source.prompt,
        max_length=source.sequence_length or positions or LONGEST_EXAMPLE,
        most_inputs=order.num_examples,
    )
    settings, folder = _settings(order, source, split), order.folder_of(split)
    hypotheses = HypothesesFile(folder / HYPOTHESES_FILE, settings)
    model = source.load(device)
    with measuring_bar() as bar:
        loss = measured_loss(
            model,
            evaluated.encoded,
            order.batch_size,
            pad_id=pad_token_id(tokenizer),
            bar=bar,
        )
        search = BeamSearch(model, tokenizer, order.beam, end_ids=end_ids_of(source.checkpoint))
        with _goes_on_with(hypotheses):
            _write_texts(search, evaluated, hypotheses, order.batch_size, bar)
    texts = {text: hypotheses[text] for text in evaluated.references}
    report = EvaluationReport(
        folder=folder,
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


def _settings(order: EvaluationOrder, source: AdapterSource, split: str) -> dict[str, Any]:
    """All that decides which text is written; batches and device do so by rounding only."""
    return {
        **source.shown(),
        "dataset": order.dataset,
        "split": split,
        "prompt": source.prompt,
        "end-ids": end_ids_of(source.checkpoint),
        "beam": order.beam.num_beams,
        "length-penalty": order.beam.length_penalty,
        "no-repeat-ngram": order.beam.no_repeat_ngram,
        "max-new-tokens": order.beam.max_new_tokens,
    }


@contextmanager
def _goes_on_with(hypotheses: HypothesesFile) -> Iterator[None]:
    """Have an interrupt say that nothing that was written is lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the same command goes on with the texts that are in {hypotheses.path}"
        ) from None


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
