"""ROUGE-L and CIDEr of tokenised texts, by pycocoevalcap's own scorers."""

from collections.abc import Sequence


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The mean over items of ROUGE-L's F with beta 1.2, between 0 and 1.

    Precision and recall are each that of the reference for which it is highest.
    """
    from pycocoevalcap.rouge.rouge import Rouge

    score, _ = Rouge().compute_score(*_numbered(hypotheses, references))
    return float(score)


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The mean over items of CIDEr, between 0 and 10.

    How rare a sequence of words is, is counted over these items: the mean of parts is not the CIDEr
    of the whole.
    """
    from pycocoevalcap.cider.cider import Cider

    score, _ = Cider().compute_score(*_numbered(hypotheses, references))
    return float(score)


def _numbered(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and hypotheses by the number of the item, as the scorers take them."""
    return (
        {number: list(texts) for number, texts in enumerate(references)},
        {number: [text] for number, text in enumerate(hypotheses)},
    )
