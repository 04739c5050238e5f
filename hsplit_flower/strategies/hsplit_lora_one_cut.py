"""HSplitLoRA without ARMSC: one cut and one rank for all, what the weakest device can.

A study of what unequal cuts and ranks bring (ARMSC): the exact sum is HSplitLoRA's.
"""

from ..methods import HSPLIT_LORA_ONE_CUT
from ..server.split_strategy import SplitStrategy


class HSplitLoRAOneCut(SplitStrategy):
    """Fine-tune one language model across unequal clients, with the same part of it, and one rank.

    The parameters are those of `SplitStrategy`.
    """

    method = HSPLIT_LORA_ONE_CUT
