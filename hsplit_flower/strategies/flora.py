"""FLoRA: ranks by device, stacked exactly, merged into the base in every round.

Wang et al., Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations,
arXiv 2409.05976. Every round starts with fresh factors and a fresh optimizer.
"""

from ..methods import FLORA
from ..server.whole_model_strategy import WholeModelStrategy


class FLoRA(WholeModelStrategy):
    """Fine-tune one language model across clients that hold it whole, by stacking their factors.

    The parameters are those of `WholeModelStrategy`.
    """

    method = FLORA
