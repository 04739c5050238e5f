"""What a client takes off each vector, and adds to it, before it leaves."""

from pydantic import model_validator
from typing_extensions import Self

from .fields import setting
from .group import Settings


class Privacy(Settings):
    """Clipping and Gaussian noise of hidden states, and of the gradients that clients send.

    Both are applied token by token: a vector longer than the norm is shortened to it, and noise of
    ``multiplier · norm`` is added to each of its numbers.
    """

    hidden_clip_norm: float = setting(
        0.0, "Longest hidden state of a token that is sent; 0 for no limit.", ge=0
    )
    hidden_noise: float = setting(
        0.0,
        "Standard deviation of the noise on each number of a hidden state, in clip norms.",
        ge=0,
    )
    gradient_clip_norm: float = setting(
        0.0,
        "Longest gradient of a token's last hidden state that is sent, where labels stay on the "
        "client; 0 for no limit.",
        ge=0,
    )
    gradient_noise: float = setting(
        0.0,
        "Standard deviation of the noise on each number of such a gradient, in clip norms.",
        ge=0,
    )
    noise_seed: int | None = setting(
        None,
        "Makes the noise the same again, for measurements alone: whoever knows it takes the noise "
        "off. Empty draws it from the client's operating system.",
        ge=0,
    )

    @model_validator(mode="after")
    def _noise_has_a_scale(self) -> Self:
        problems = [
            f"{name}_noise is {noise:g} with {name}_clip_norm = 0: noise is told in clip norms; "
            "say one, for instance the usual length of a vector"
            for name, noise, norm in (
                ("hidden", self.hidden_noise, self.hidden_clip_norm),
                ("gradient", self.gradient_noise, self.gradient_clip_norm),
            )
            if noise and not norm
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self
