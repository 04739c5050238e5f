"""The tokenizers that the data tests read with."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase


@pytest.fixture(scope="session")
def tokenizer(llama_tiny: Path) -> PreTrainedTokenizerBase:
    """The built-in base's tokenizer: <pad> 0, <s> 1, </s> 2, and none of them put in by itself."""
    return AutoTokenizer.from_pretrained(llama_tiny)


@pytest.fixture
def gpt2_tokenizer(shared_data: Path) -> PreTrainedTokenizerBase:
    """GPT-2's tokenizer as bare files, which name neither an end nor a padding token."""
    return AutoTokenizer.from_pretrained(shared_data / "gpt2-tokenizer")
