"""SplitLoRA: one cut and one rank for all, the plain mean of factors.

Lin et al., SplitLoRA, arXiv 2407.00952. Clients' factors are averaged as they are, A and B apart;
the server has one adapter, which every client's steps move in turn.
"""

from ..methods import SPLIT_LORA
from ..server.split_strategy import SplitStrategy


class SplitLoRA(SplitStrategy):
    """Fine-tune one language model across clients that all have the same part of it.

    The parameters are those of `SplitStrategy`. The cut is at most what the weakest client holds;
    so is the rank, and at most ``planning.max_rank``.
    """

    method = SPLIT_LORA
