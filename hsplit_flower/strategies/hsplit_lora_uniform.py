"""HSplitLoRA without importance: the same rank for all weights of a client, at equal bytes.

A study of what importance brings (IWI): cuts and the exact sum are HSplitLoRA's.
"""

from ..methods import HSPLIT_LORA_UNIFORM
from ..server.split_strategy import SplitStrategy


class HSplitLoRAUniform(SplitStrategy):
    """Fine-tune one language model across unequal clients, each with one rank.

    The parameters are those of `SplitStrategy`.
    """

    method = HSPLIT_LORA_UNIFORM
