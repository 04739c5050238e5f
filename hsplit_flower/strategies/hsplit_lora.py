"""HSplitLoRA: unequal cuts and ranks by importance, exact aggregation.

Lin et al., HSplitLoRA, arXiv 2505.02795. Each client trains adapters on the blocks below its own
cut, its session on the split worker those above; ARMSC chooses cuts and ranks from device profiles
and importance, NAA aggregates exactly.
"""

from ..methods import HSPLIT_LORA
from ..server.split_strategy import SplitStrategy


class HSplitLoRA(SplitStrategy):
    """Fine-tune one language model across unequal clients, none of which holds it whole.

    The parameters are those of `SplitStrategy`.
    """

    method = HSPLIT_LORA
