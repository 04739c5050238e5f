"""An adapter put on its base, and measured on conversations that nobody trained on."""

from ..data import pad_token_id
from ..errors import ConfigError
from ..settings import Chat
from ..splitting import load_tokenizer
from .adapter_source import AdapterSource, check_device
from .beam_search import most_positions
from .conversations_report import ConversationsReport
from .evaluation_order import BeamOptions, EvaluationOrder
from .held_out_rows import ALL, HELD_OUT, read_held_out
from .measured_loss import measured_loss, measuring_bar

# For models whose configuration says no length.
LONGEST_ROW = 4096


def evaluate_conversations(order: EvaluationOrder, source: AdapterSource) -> ConversationsReport:
    """The perplexity of what a run with the adapter's settings would hold out of the set.

    Raises
    ------
    ConfigError
        If an option is wrong, or is one of texts that are written.
    DataError
        If the set cannot be read, or nothing of it can be measured on.
    AdapterError
        If the adapter does not fit its base.
    """
    _check_options(order)
    device, split = check_device(order.device), order.split or HELD_OUT
    chat, max_length = _chat(order, source), _max_length(order, source)
    tokenizer = load_tokenizer(source.base.name, revision=source.base.revision or None)
    rows = read_held_out(
        order.dataset,
        tokenizer,
        chat,
        max_length=max_length,
        split=split,
        most=order.num_examples,
    )
    model = source.load(device)
    with measuring_bar() as bar:
        pad_id, examples = pad_token_id(tokenizer), rows.encoded.examples
        loss = measured_loss(model, examples, order.batch_size, pad_id=pad_id, bar=bar)
    report = ConversationsReport(
        folder=order.folder_of(split),
        settings={
            **source.shown(),
            "dataset": order.dataset,
            "split": split,
            "sequence-length": max_length,
            **{key: value for key, value in chat.shown().items() if key != "packing"},
        },
        learn=chat.learn,
        on_long=chat.on_long,
        max_length=max_length,
        num_rows=rows.num_rows,
        counts=rows.encoded.counts,
        num_measured=len(rows.encoded.examples),
        loss=loss,
    )
    report.write()
    return report


def _check_options(order: EvaluationOrder) -> None:
    """Refuse what has no meaning where no text is written."""
    if order.split not in (None, HELD_OUT, ALL):
        raise ConfigError(
            f"--split is {order.split!r}: {HELD_OUT} or {ALL} is wanted of conversations, which "
            f"{order.dataset!r} holds"
        )
    if order.prompt is not None:
        raise ConfigError(
            f"--prompt is {order.prompt!r}: conversations are written in the tokenizer's chat "
            "template, or a plain one; leave it out"
        )
    if order.beam != BeamOptions():
        raise ConfigError(
            "--beam, --length-penalty, --no-repeat-ngram and --max-new-tokens say how texts are "
            "written, and none is written for conversations: leave them out"
        )


def _chat(order: EvaluationOrder, source: AdapterSource) -> Chat:
    given = {name: getattr(order.chat, name) for name in order.chat.model_fields_set}
    return (source.chat or Chat()).replace(**given)


def _max_length(order: EvaluationOrder, source: AdapterSource) -> int:
    positions = most_positions(source.checkpoint.config())
    said = order.training.sequence_length if order.training.model_fields_set else None
    asked = said or source.sequence_length or positions or LONGEST_ROW
    if positions is not None and asked > positions:
        raise ConfigError(
            f"--sequence-length is {asked}: the base has {positions} positions, so {positions} or "
            "fewer is wanted"
        )
    return asked
