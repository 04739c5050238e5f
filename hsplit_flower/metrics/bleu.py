"""BLEU of all items together, by sacrebleu."""

from collections.abc import Sequence
from itertools import zip_longest

from .nlg_item import NlgItem


def bleu(items: Sequence[NlgItem]) -> float:
    """BLEU-4 between 0 and 1: each text in lower case, the reference closest in length, as is.

    Where no four words in a row are shared with any reference, it is 0: nothing is smoothed.
    """
    from sacrebleu import corpus_bleu

    # A stream has one reference of each item, and none where an item has fewer.
    streams = list(zip_longest(*(item.references for item in items)))
    score = corpus_bleu(
        [item.hypothesis for item in items],
        streams,
        tokenize="13a",
        lowercase=True,
        force=True,
        smooth_method="none",
    )
    return float(score.score) / 100
