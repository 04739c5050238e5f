"""NIST as its definition reads, word by word and n-gram by n-gram; slow and plain."""

import math
from collections.abc import Sequence


def ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def occurrences(references: Sequence[Sequence[Sequence[str]]], wanted: tuple[str, ...]) -> int:
    """How often words follow each other so in all references; of no words, how many words."""
    if not wanted:
        return sum(len(text) for texts in references for text in texts)
    return sum(ngrams(text, len(wanted)).count(wanted) for texts in references for text in texts)


def naive_nist(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> float:
    """Of texts that are words already."""
    score = 0.0
    for size in range(1, 6):
        gained, written = 0.0, 0
        for hypothesis, texts in zip(hypotheses, references, strict=True):
            own = ngrams(hypothesis, size)
            written += len(own)
            for each in dict.fromkeys(own):
                shared = min(own.count(each), max(ngrams(text, size).count(each) for text in texts))
                if shared:
                    prefix = occurrences(references, each[:-1])
                    gained += shared * math.log2(prefix / occurrences(references, each))
        score += gained / max(written, 1)
    words = sum(map(len, hypotheses))
    mean_references = sum(map(len, references)) / len(references)
    ratio = min(1.0, words / (occurrences(references, ()) / mean_references))
    if not words:
        return 0.0
    return score * math.exp(math.log(0.5) / math.log(1.5) ** 2 * math.log(ratio) ** 2)
