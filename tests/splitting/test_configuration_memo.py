"""What was found for a configuration is found again for one that says the same, and no other."""

import pytest
from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import once_a_configuration
from hsplit_flower.splitting.configuration_memo import MOST_KEPT


class Finder:
    """Counts what it was really asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.find = once_a_configuration(self._find)

    def _find(self, config: PretrainedConfig, rows: int = 1) -> list[int]:
        self.asked.append((config.vocab_size, rows))
        if config.vocab_size < 0:
            raise UnsupportedModelError("no model has so few tokens")
        return [config.vocab_size, rows]


def test_what_says_the_same_is_looked_at_once() -> None:
    finder = Finder()
    first = finder.find(LlamaConfig(vocab_size=7))
    assert finder.find(LlamaConfig(vocab_size=7)) is first
    assert finder.asked == [(7, 1)]


def test_what_differs_in_anything_is_looked_at_anew() -> None:
    finder = Finder()
    config = LlamaConfig(vocab_size=7)
    assert finder.find(config) == [7, 1]
    config.vocab_size = 8
    assert finder.find(config) == [8, 1], "the same object that says another thing"
    assert finder.find(config, 2) == [8, 2]
    assert finder.find(LlamaConfig(vocab_size=8, hidden_size=64)) == [8, 1]
    assert finder.find(GPT2Config(vocab_size=8)) == [8, 1]
    assert len(finder.asked) == 5


def test_an_error_is_not_kept() -> None:
    finder = Finder()
    for _ in range(2):
        with pytest.raises(UnsupportedModelError):
            finder.find(LlamaConfig(vocab_size=-1))
    assert len(finder.asked) == 2


def test_no_more_is_kept_than_a_run_needs() -> None:
    finder = Finder()
    for size in range(MOST_KEPT + 1):
        finder.find(LlamaConfig(vocab_size=size))
    finder.find(LlamaConfig(vocab_size=MOST_KEPT))
    assert len(finder.asked) == MOST_KEPT + 1
    finder.find(LlamaConfig(vocab_size=0))
    assert len(finder.asked) == MOST_KEPT + 2, "the oldest is forgotten first"
