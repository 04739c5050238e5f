"""The five metrics of text from data, as the official script of the E2E challenge computes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice

from ..errors import DataError, MetricsUnavailableError
from .bleu import bleu
from .caption_scores import cider, rouge_l
from .java import check_java
from .meteor import meteor
from .nist import nist
from .nlg_item import NlgItem
from .ptb_tokens import ptb_tokenised

# One by one: the package's own list of scorers has SPICE, which downloads when it is imported.
_SCORERS = (
    "sacrebleu",
    "pycocoevalcap.tokenizer.ptbtokenizer",
    "pycocoevalcap.meteor.meteor",
    "pycocoevalcap.rouge.rouge",
    "pycocoevalcap.cider.cider",
)


@dataclass(frozen=True, kw_only=True)
class NlgScores:
    """BLEU-4, NIST-5, METEOR 1.5, ROUGE-L and CIDEr of all items of a test set together.

    All are higher for better texts. BLEU, METEOR and ROUGE-L are between 0 and 1; papers often
    write them in per cent.
    """

    bleu: float
    nist: float
    meteor: float
    rouge_l: float
    cider: float


def check_metrics() -> None:
    """See that `nlg_scores` can run; takes a moment, and is for whoever has much to do before it.

    Raises
    ------
    MetricsUnavailableError
        If a library of the extra ``nlg`` or Java is missing, or Java cannot have 2 GB.
    """
    for scorer in _SCORERS:
        try:
            import_module(scorer)
        except ImportError as error:
            raise MetricsUnavailableError(
                f"the metrics need {scorer.partition('.')[0]}, and it cannot be imported "
                f"({error}); install it with: pip install 'hsplit-flower[nlg]', or ask for no "
                "metrics (--no-metrics)"
            ) from error
    check_java()


def nlg_scores(items: Sequence[NlgItem]) -> NlgScores:
    """The scores of these items, whose references may differ in number.

    Raises
    ------
    DataError
        If there are no items.
    MetricsUnavailableError
        If a library of the extra ``nlg`` or Java is missing, or a program fails.
    """
    if not items:
        raise DataError("there are no texts to score; wanted at least one item")
    check_metrics()
    lines = [item.on_lines() for item in items]
    # The two are tokenised apart, as the official script does it.
    tokens = iter(ptb_tokenised([text for item in lines for text in item.references]))
    references = [list(islice(tokens, len(item.references))) for item in lines]
    hypotheses = ptb_tokenised([item.hypothesis for item in lines])
    return NlgScores(
        bleu=bleu(lines),
        nist=nist(lines),
        meteor=meteor(hypotheses, references),
        rouge_l=rouge_l(hypotheses, references),
        cider=cider(hypotheses, references),
    )
