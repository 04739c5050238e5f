"""The app's data: this client's examples, tokenised, and the dev set.

What is read, divided and tokenised is kept, because a process may serve many clients' messages: the
parts of all clients together are the data set once. Nothing rests on it.
"""

from collections.abc import Iterator
from functools import lru_cache

from flwr.app import Context
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hsplit_flower.data import (
    EncodedExample,
    Example,
    batches,
    encode_examples,
    labels_of,
    load_examples,
    pad_token_id,
    partition,
    thinned,
)
from hsplit_flower.runs import partition_of
from hsplit_flower.settings import Model
from hsplit_flower.splitting import load_tokenizer
from nlg.run_config import RunConfig

Batches = Iterator[dict[str, Tensor]]

KEPT_PARTS = 1024
"""Of training and dev set together: more clients than one process of a simulation has."""


def num_examples(config: RunConfig, context: Context) -> int:
    """How many examples this client trains on: those that are not too long."""
    return len(_encoded_part(config, *partition_of(context.node_config), "train"))


def num_steps(config: RunConfig, context: Context) -> int:
    """How many optimizer steps this client takes in a round."""
    return config.steps_of(num_examples(config, context))


def training_batches(
    config: RunConfig, context: Context, server_round: int, *, num_steps: int
) -> Batches:
    """One round's batches of this client's partition for so many steps, other ones each round."""
    position, num_clients = partition_of(context.node_config)
    training = config.run.training
    return batches(
        _encoded_part(config, position, num_clients, "train"),
        training.batch_size,
        steps=num_steps * training.gradient_accumulation_steps,
        seed=(training.seed, server_round, position),
        pad_id=pad_token_id(_tokenizer(config.run.model)),
    )


def evaluation_batches(config: RunConfig, context: Context | None = None) -> Batches:
    """One pass over the dev set: a client's share of it, or the server's."""
    encoded = (
        encoded_dev(config)
        if context is None
        else _encoded_part(config, *partition_of(context.node_config), "dev")[
            : config.app.evaluation_examples
        ]
    )
    pad_id = pad_token_id(_tokenizer(config.run.model))
    return batches(encoded, config.run.training.batch_size, pad_id=pad_id)


@lru_cache(maxsize=2)
def encoded_dev(config: RunConfig) -> list[EncodedExample]:
    """The server's dev set, evenly thinned to what evaluation may take."""
    examples = load_examples(config.app.dataset, "dev")
    return _encode(config, thinned(examples, config.app.evaluation_examples))


@lru_cache(maxsize=4)
def _divided(config: RunConfig, num_clients: int, split: str) -> list[list[Example]]:
    """The examples of every client."""
    examples = load_examples(config.app.dataset, split)
    parts = partition(
        labels_of(examples, config.app.partition_by),
        num_clients,
        scheme=config.app.partition,
        alpha=config.app.dirichlet_alpha,
        seed=config.run.training.seed,
    )
    return [[examples[index] for index in part] for part in parts]


@lru_cache(maxsize=KEPT_PARTS)
def _encoded_part(
    config: RunConfig, position: int, num_clients: int, split: str
) -> list[EncodedExample]:
    return _encode(config, _divided(config, num_clients, split)[position])


def _encode(config: RunConfig, examples: list[Example]) -> list[EncodedExample]:
    """Prompt, reference and end token; the loss is over the reference and the end token."""
    tokenizer = _tokenizer(config.run.model)
    return encode_examples(
        examples,
        tokenizer,
        max_length=config.run.training.sequence_length,
        style=config.app.prompt,
        on_long="drop",
    )


@lru_cache(maxsize=2)
def _tokenizer(model: Model) -> PreTrainedTokenizerBase:
    return load_tokenizer(model.name, revision=model.revision or None)
