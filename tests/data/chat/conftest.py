"""Tokenizers with the templates of model families."""

from collections.abc import Callable
from copy import deepcopy

import pytest
from transformers import PreTrainedTokenizerBase

from .templates import TOKENS

WithTemplate = Callable[[str], PreTrainedTokenizerBase]


@pytest.fixture(scope="session")
def with_template(tokenizer: PreTrainedTokenizerBase) -> WithTemplate:
    """The built-in base's tokenizer, with the families' tokens and one of their templates."""

    def made(template: str) -> PreTrainedTokenizerBase:
        own = deepcopy(tokenizer)
        own.add_special_tokens({"extra_special_tokens": list(TOKENS)})
        own.chat_template = template
        return own

    return made
