"""HetLoRA: ranks by device, padded with zeros and weighted by norms, which clients prune.

Cho et al., Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models, arXiv
2401.06432.
"""

from ..methods import HET_LORA
from ..server.whole_model_strategy import WholeModelStrategy


class HetLoRA(WholeModelStrategy):
    """Fine-tune one language model across clients that hold it whole, each with ranks of its own.

    The parameters are those of `WholeModelStrategy`.
    """

    method = HET_LORA
