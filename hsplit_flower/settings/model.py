"""Which base model is fine-tuned, and how it is loaded."""

from typing import Literal

from .fields import setting
from .group import Settings

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number of each type."""


class Model(Settings):
    """The base, the same for clients, worker and server."""

    name: str = setting(
        "llama-tiny",
        "The built-in llama-tiny, a folder with config.json and safetensors, or a hub id; with "
        "HF_HUB_OFFLINE=1 in the environment the hub is never asked.",
    )
    revision: str = setting("", "Commit, tag or branch of a hub model; empty for its main branch.")
    dtype: Dtype = setting(
        "float32",
        "Type of the base's numbers; adapters are float32 always. Of the 16-bit types bfloat16 has "
        "float32's range; float16 loses the smallest gradients, as the loss is not scaled.",
    )
    attention: Literal["", "eager", "sdpa"] = setting(
        "", "Attention implementation; empty leaves the choice to transformers."
    )
