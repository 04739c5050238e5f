"""FlexLoRA: ranks by device, the dense mean, and of its SVD each client's best part.

Bai et al., Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client
Resources, arXiv 2402.11505.
"""

from ..methods import FLEX_LORA
from ..server.whole_model_strategy import WholeModelStrategy


class FlexLoRA(WholeModelStrategy):
    """Fine-tune one language model across clients that hold it whole, by SVD of their mean.

    The parameters are those of `WholeModelStrategy`.
    """

    method = FLEX_LORA
