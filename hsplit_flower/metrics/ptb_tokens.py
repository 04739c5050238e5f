"""The tokens that METEOR, ROUGE-L and CIDEr compare: Penn Treebank's, without punctuation."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import MetricsUnavailableError
from .java import run_java

_PROGRAM = "edu.stanford.nlp.process.PTBTokenizer"


def ptb_tokenised(texts: Sequence[str]) -> list[str]:
    """Each text, which is on one line, in lower case with spaces between its tokens.

    Runs Stanford's tokenizer from pycocoevalcap with the same options as that does. It is not
    started by way of its class there, which writes into the folder that it is installed in.

    Raises
    ------
    MetricsUnavailableError
        If the program fails.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    folder = Path(ptbtokenizer.__file__).parent
    classes = str(folder / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    # It would take the end of one text and the beginning of the next for one without this option.
    arguments = ("-cp", classes, _PROGRAM, "-preserveLines", "-lowerCase", "-encoding", "UTF-8")
    lines = run_java("the tokenizer of METEOR, ROUGE-L and CIDEr", arguments, "\n".join(texts))
    tokenised = lines.split("\n")[: len(texts)]
    if len(tokenised) != len(texts):
        raise MetricsUnavailableError(
            f"Stanford's tokenizer gave {len(tokenised)} lines for {len(texts)} texts; "
            "does a text have a line break in it?"
        )
    dropped = set(ptbtokenizer.PUNCTUATIONS)
    return [
        " ".join(token for token in line.rstrip().split(" ") if token not in dropped)
        for line in tokenised
    ]
