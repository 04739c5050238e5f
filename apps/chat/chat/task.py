"""The app's data: this client's rows, its own file's or its part of a set, and held-out ones.

What is read, divided and tokenised is kept, because a process may serve many clients' messages: the
parts of all clients together are the data set once. Nothing rests on it.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from flwr.app import Context
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from chat.run_config import RunConfig
from hsplit_flower.data import EncodedExample, batches, pad_token_id, partition, thinned
from hsplit_flower.data.chat import (
    HELP_DESK,
    Conversation,
    PackedRow,
    encode_conversations,
    held_out_of_parts,
    held_out_split,
    load_conversations,
    pack,
)
from hsplit_flower.data.chat.row_format import RowFormat
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.runs import is_simulated, partition_id_of, partition_of
from hsplit_flower.settings import Model, OwnData
from hsplit_flower.splitting import load_tokenizer

Batches = Iterator[dict[str, Tensor]]
Sides = tuple[list[Conversation], list[Conversation]]
"""To train on, and held out."""

KEPT_PARTS = 1024
"""Of training and held-out rows together: more clients than one process of a simulation has."""


def num_examples(config: RunConfig, context: Context) -> int:
    """How many rows this client trains on: those that are kept of its own."""
    return len(_encoded(config, *_place(config, context), is_held_out=False))


def num_steps(config: RunConfig, context: Context) -> int:
    """How many optimizer steps this client takes in a round."""
    return config.steps_of(len(_training_rows(config, *_place(config, context))))


def training_batches(
    config: RunConfig, context: Context, server_round: int, *, num_steps: int
) -> Batches:
    """One round's batches of this client's rows for so many steps, other ones each round."""
    training, (own, position, num_clients) = config.run.training, _place(config, context)
    return batches(
        _training_rows(config, own, position, num_clients),
        training.batch_size,
        steps=num_steps * training.gradient_accumulation_steps,
        seed=(training.seed, server_round, position),
        pad_id=pad_token_id(_tokenizer(config.run.model)),
    )


@lru_cache(maxsize=KEPT_PARTS)
def _training_rows(
    config: RunConfig, own: OwnData, position: int, num_clients: int
) -> Sequence[EncodedExample] | Sequence[PackedRow]:
    """What a batch is made of: an example a row, or several."""
    encoded = _encoded(config, own, position, num_clients, is_held_out=False)
    return pack(encoded, config.run.training.sequence_length) if config.chat.packing else encoded


def evaluation_batches(config: RunConfig, context: Context) -> Batches:
    """One pass over what this client holds out."""
    held_out = _encoded(config, *_place(config, context), is_held_out=True)
    return _one_pass(config, held_out[: config.app.evaluation_examples])


def server_batches(config: RunConfig) -> Batches:
    """One pass over what the server evaluates on."""
    return _one_pass(config, encoded_for_server(config))


@lru_cache(maxsize=2)
def encoded_for_server(config: RunConfig) -> list[EncodedExample]:
    """The server's rows, evenly thinned to what evaluation may take."""
    if config.app.held_out:
        held_out = load_conversations(config.app.held_out, _row_format(config))
    else:
        everything = load_conversations(config.app.divided, _row_format(config))
        held_out = held_out_split(everything, config.chat.held_out_share)[1]
    return _encode(config, thinned(held_out, config.app.evaluation_examples))


def _place(config: RunConfig, context: Context) -> tuple[OwnData, int, int]:
    """A client's own files, or else which part of the set it has, and of how many.

    Raises
    ------
    ConfigError
        If it has neither: beside others that train on texts of their own, a real site is not to
        train on built-in ones that nobody asked for.
    """
    own = OwnData.of_node(context.node_config)
    if own.data:
        return own, partition_id_of(context.node_config), 1
    if not (config.app.dataset or is_simulated()):
        raise ConfigError(
            "this client has no rows: its node config names no data, and the run no dataset; start "
            "its SuperNode with --node-config 'data=\"/path/of/its/rows.jsonl\"', or the run with "
            f"dataset='{HELP_DESK}' if parts of the built-in conversations are wanted"
        )
    try:
        return own, *partition_of(context.node_config)
    except ConfigError as error:
        raise ConfigError(f"{error}; or name this client's own file, with data=…") from None


@lru_cache(maxsize=4)
def _divided(config: RunConfig, num_clients: int) -> list[Sides]:
    """The rows of every client; none is trained on that the server holds out of the whole."""
    app = config.app
    group_by = "" if app.scheme == "iid" else app.column
    everything = load_conversations(app.divided, _row_format(config, group_by))
    parts = partition(
        [one.group for one in everything],
        num_clients,
        scheme=app.scheme,
        alpha=app.dirichlet_alpha,
        seed=config.run.training.seed,
        min_examples=2,
    )
    return held_out_of_parts(everything, parts, config.chat.held_out_share)


def _sides(config: RunConfig, own: OwnData, position: int, num_clients: int) -> Sides:
    if own.held_out:
        files = (
            load_conversations(path, _own_format(config, own)) for path in (own.data, own.held_out)
        )
        train, held_out = files
        return train, held_out
    if own.data:
        rows = load_conversations(own.data, _own_format(config, own))
        return held_out_split(rows, config.chat.held_out_share)
    return _divided(config, num_clients)[position]


@lru_cache(maxsize=KEPT_PARTS)
def _encoded(
    config: RunConfig, own: OwnData, position: int, num_clients: int, *, is_held_out: bool
) -> list[EncodedExample]:
    sides = _sides(config, own, position, num_clients)
    if not sides[is_held_out]:
        raise DataError(
            f"part {position} of {num_clients} of {config.app.divided} has {len(sides[0])} rows to "
            f"train on and {len(sides[1])} that are held out, as chat.held-out-share = "
            f"{config.chat.held_out_share:g} of the whole set says: one or more of each is wanted; "
            "divide the set among fewer clients or more evenly, or change the share"
        )
    return _encode(config, sides[is_held_out])


def _encode(config: RunConfig, rows: Sequence[Conversation]) -> list[EncodedExample]:
    return encode_conversations(
        rows,
        _tokenizer(config.run.model),
        max_length=config.run.training.sequence_length,
        learn=config.chat.learn,
        on_long=config.chat.on_long,
    ).examples


def _one_pass(config: RunConfig, encoded: Sequence[EncodedExample]) -> Batches:
    pad_id = pad_token_id(_tokenizer(config.run.model))
    return batches(encoded, config.run.training.batch_size, pad_id=pad_id)


def _row_format(config: RunConfig, group_by: str = "") -> RowFormat:
    return RowFormat.of(config.chat.format, config.chat.columns, group_by)


def _own_format(config: RunConfig, own: OwnData) -> RowFormat:
    """How a client's own files are read: sites that name their columns alike are the exception."""
    chat = config.chat
    return RowFormat.of(own.format or chat.format, own.columns or chat.columns)


@lru_cache(maxsize=2)
def _tokenizer(model: Model) -> PreTrainedTokenizerBase:
    return load_tokenizer(model.name, revision=model.revision or None)
