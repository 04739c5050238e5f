"""Which base model is fine-tuned, and how it is loaded."""

from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

from .fields import setting
from .group import Settings

FloatType = Literal["float32", "bfloat16", "float16"]
Dtype = Literal["float32", "bfloat16", "float16", "nf4", "int8"]
QUANTISED = ("nf4", "int8")
"""What is no type of numbers to compute with."""
DTYPE_BYTES: dict[FloatType, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number of each type."""
QUANTISED_COMPUTES_IN: FloatType = "bfloat16"


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
        "float32's range; float16 loses the smallest gradients, as the loss is not scaled. "
        "nf4 (of 4 bits) and int8 quantise the matrices while they are loaded, through "
        "bitsandbytes: pip install 'hsplit-flower[quantised]' on clients and worker. A base that "
        "bitsandbytes has quantised already is taken as it is.",
    )
    computing_dtype: Literal["", FloatType] = setting(
        "",
        "Type that a base of dtype nf4 or int8 computes in, and has what is not quantised in; "
        "empty for bfloat16. Other bases compute in their dtype.",
    )
    attention: Literal["", "eager", "sdpa"] = setting(
        "", "Attention implementation; empty leaves the choice to transformers."
    )

    @model_validator(mode="after")
    def _computes_in_one_type(self) -> Self:
        if self.computing_dtype and not self.quantised:
            raise ValueError(
                f"computing-dtype is {self.computing_dtype!r}: a base of dtype {self.dtype!r} "
                "computes in that; leave it out, or choose nf4 or int8 as dtype"
            )
        return self

    @property
    def quantised(self) -> str:
        """What the base is quantised to while it is loaded; empty where it is not."""
        return self.dtype if self.dtype in QUANTISED else ""

    @property
    def computes_in(self) -> FloatType:
        """Type of hidden states, and of all weights that are not quantised."""
        if self.dtype == "nf4" or self.dtype == "int8":
            return self.computing_dtype or QUANTISED_COMPUTES_IN
        return self.dtype
