"""NIST of Doddington (2002), to the definition of the program mteval-13a.

Equal to the Perl program in the official E2E script, which is what that script runs by default. Its
Python version differs where references are of unequal number or texts shorter than five words.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from .nlg_item import NlgItem

MOST_WORDS = 5
# A text of two thirds of the references' length is worth half.
_STEEPNESS = -math.log(0.5) / math.log(1.5) ** 2

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),  # punctuation
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # full stop and comma, unless after a digit
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # the same, unless before a digit
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),  # a dash after a digit
)


def nist(items: Sequence[NlgItem]) -> float:
    """The information of the word sequences that hypotheses share with references.

    ``penalty * sum_n (sum of info of the n-grams shared) / (n-grams of all hypotheses)`` for
    ``n = 1..5``. An n-gram is shared as often as the hypothesis and one of its references have it.
    ``info(w1..wn) = log2(count(w1..wn-1) / count(w1..wn))`` over all references of all items, and
    ``penalty = exp(-s ln(min(1, L / R))^2)``, where ``L`` is the hypotheses' length in words and
    ``R`` the references', divided by the mean number of references.
    """
    references = [[nist_words(text) for text in item.references] for item in items]
    hypotheses = [nist_words(item.hypothesis) for item in items]
    counts = Counter(ngram for texts in references for words in texts for ngram in _ngrams(words))
    counts[()] = num_words = sum(len(words) for texts in references for words in texts)
    shared, written = [0.0] * MOST_WORDS, [0] * MOST_WORDS
    for words, texts in zip(hypotheses, references, strict=True):
        most: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            most |= Counter(_ngrams(text))
        for ngram, count in Counter(_ngrams(words)).items():
            written[len(ngram) - 1] += count
            if ngram in most:
                information = math.log2(counts[ngram[:-1]] / counts[ngram])
                shared[len(ngram) - 1] += min(count, most[ngram]) * information
    num_references = sum(map(len, references))
    length = written[0] * num_references / (num_words * len(items)) if num_words else 0.0
    return _penalty(length) * sum(
        total / max(count, 1) for total, count in zip(shared, written, strict=True)
    )


def nist_words(text: str) -> list[str]:
    """The words and marks of a text in lower case, as mteval-13a parts them."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text.lower()} "
    for pattern, parted in _SPLITS:
        text = pattern.sub(parted, text)
    return text.split()


def _ngrams(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for size in range(1, MOST_WORDS + 1):
        for start in range(len(words) - size + 1):
            yield tuple(words[start : start + size])


def _penalty(length: float) -> float:
    """Of the hypotheses' length as a share of the references'."""
    if length <= 0:
        return 0.0
    return math.exp(-_STEEPNESS * math.log(min(1.0, length)) ** 2)
