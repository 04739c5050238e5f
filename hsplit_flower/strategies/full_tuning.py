"""Full tuning: federated averaging of the whole model's weights.

McMahan et al., arXiv 1602.05629. All parameters are trained and sent; there are no adapters.
"""

from ..methods import FULL_TUNING
from ..server.whole_model_strategy import WholeModelStrategy


class FullTuning(WholeModelStrategy):
    """Train all of one language model across clients, each of which holds it whole.

    The parameters are those of `WholeModelStrategy`.
    """

    method = FULL_TUNING
