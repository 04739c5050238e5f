"""HSplitLoRA without NAA: the mean of factors that are padded with zeros.

A study of what the exact sum brings (NAA): cuts and ranks are HSplitLoRA's.
"""

from ..methods import HSPLIT_LORA_PADDED
from ..server.split_strategy import SplitStrategy


class HSplitLoRAPadded(SplitStrategy):
    """Fine-tune one language model across unequal clients, whose factors are padded and averaged.

    The parameters are those of `SplitStrategy`.
    """

    method = HSPLIT_LORA_PADDED
