"""How a text is written: which token follows, and when it ends."""

from pydantic import model_validator
from typing_extensions import Self

from .fields import setting
from .group import Settings


class Decoding(Settings):
    """One way to write: the likeliest token each time, drawn tokens, or the best of several texts.

    Drawing is transformers': temperature first, then the likeliest ``top_k``, then ``top_p`` (Fan
    et al. 2018, arXiv 1805.04833; Holtzman et al. 2020, arXiv 1904.09751).
    """

    max_new_tokens: int = setting(
        128, "Most tokens that are written, without those of the prompt.", unit="tokens", ge=1
    )
    temperature: float = setting(
        0.0,
        "What logits are divided by before a token is drawn: more gives rarer tokens. 0 draws none "
        "and takes the likeliest.",
        ge=0,
    )
    top_k: int = setting(50, "Draw among so many of the likeliest tokens; 0 draws among all.", ge=0)
    top_p: float = setting(
        1.0, "Draw among the likeliest tokens that have this probability together.", gt=0, le=1
    )
    seed: int = setting(0, "Seed of what is drawn: the same one draws the same.", ge=0)
    num_beams: int = setting(
        1, "Texts that are followed at a time; the likeliest of them is given.", ge=1
    )

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn."""
        return self.temperature > 0

    @model_validator(mode="after")
    def _draws_or_follows(self) -> Self:
        if self.draws and self.num_beams > 1:
            raise ValueError(
                f"num_beams = {self.num_beams} and temperature = {self.temperature:g}: several "
                "texts are followed, or tokens are drawn; leave one of the two out"
            )
        return self


class SplitText(Settings):
    """Where a model is cut to write with a worker, and how long texts may be there."""

    cut: int = setting(
        0,
        "How many blocks this device has, the first ones, where there is a worker; 0 has as few as "
        "the worker allows, at least one.",
        ge=0,
    )
    context_tokens: int = setting(
        1024,
        "Tokens of prompt and text together, at most, where there is a worker: it keeps room for "
        "the keys and values of so many, for each text at a time.",
        unit="tokens",
        ge=2,
    )
