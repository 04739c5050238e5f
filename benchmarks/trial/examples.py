"""What clients are trained and measured on, tokenised."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.trial.setting import Setting
from hsplit_flower.data import (
    EncodedExample,
    Example,
    encode_examples,
    labels_of,
    load_examples,
    pad_token_id,
    partition,
    thinned,
)
from hsplit_flower.splitting import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What clients are trained and measured on, tokenised once for many settings."""

    parts: list[list[EncodedExample]]
    dev: list[EncodedExample]
    pad_id: int

    @classmethod
    def load(
        cls,
        *,
        model: str,
        dataset: str,
        num_clients: int,
        seed: int,
        evaluation_examples: int,
        max_length: int,
    ) -> "Examples":
        """Of a data set for a model, divided among clients as the app divides it."""
        encode = partial(encoded, model=model, max_length=max_length)
        train = load_examples(dataset, "train")
        places = partition(labels_of(train), num_clients, scheme="dirichlet", seed=seed)
        return cls(
            parts=[encode([train[place] for place in part]) for part in places],
            dev=encode(thinned(load_examples(dataset, "dev"), evaluation_examples)),
            pad_id=pad_token_id(load_tokenizer(model)),
        )


def examples_of(setting: Setting) -> dict[str, Any]:
    """What `Examples.load` is asked for a setting."""
    return {
        "model": setting.model,
        "dataset": setting.dataset,
        "num_clients": len(setting.budgets),
        "seed": setting.training.seed,
        "evaluation_examples": setting.evaluation_examples,
        "max_length": setting.training.sequence_length,
    }


def encoded(examples: Sequence[Example], *, model: str, max_length: int) -> list[EncodedExample]:
    """Tokenised as the app tokenises."""
    return encode_examples(
        examples, load_tokenizer(model), max_length=max_length, style="plain", on_long="drop"
    )
