"""FedLoRA (FedIT): equal ranks, the weighted mean of both factors.

Zhang et al., Towards Building the Federated GPT, arXiv 2305.05644. The rank is the highest that the
weakest of those that take part has room for.
"""

from ..methods import FED_LORA
from ..server.whole_model_strategy import WholeModelStrategy


class FedLoRA(WholeModelStrategy):
    """Fine-tune one language model across clients that hold it whole, with one rank for all.

    The parameters are those of `WholeModelStrategy`.
    """

    method = FED_LORA
