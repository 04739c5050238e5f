"""Clipping and noise on what leaves a client: token by token, before it is put into a message."""

import hashlib
import secrets

import torch
from jaxtyping import Float
from torch import Tensor

from ..settings import SessionSpec

Tokens = Float[Tensor, "batch seq hidden"]


class Protection:
    """What a session's settings ask for; what they do not ask for is passed on as it is.

    Parameters
    ----------
    spec
        Of the session: its norms and noises, and the seed if there is one.
    """

    def __init__(self, spec: SessionSpec) -> None:
        self._spec = spec

    def of_hidden(self, hidden: Tokens, step: int, micro_batch: int) -> Tokens:
        """Hidden states as they are sent. Gradients go back through the clipping."""
        spec, what = self._spec, f"hidden/{step}/{micro_batch}"
        return self._protected(hidden, spec.hidden_clip_norm, spec.hidden_noise, what)

    def of_gradient(self, gradient: Tokens, step: int, micro_batch: int) -> Tokens:
        """Gradients of last hidden states as they are sent."""
        spec, what = self._spec, f"gradient/{step}/{micro_batch}"
        return self._protected(gradient, spec.gradient_clip_norm, spec.gradient_noise, what)

    def _protected(self, vectors: Tokens, norm: float, noise: float, what: str) -> Tokens:
        """Shortened to the norm; with noise of so many norms, drawn for this use alone."""
        clipped = clip_tokens(vectors, norm)
        return clipped + self._noise(clipped, noise * norm, what) if noise else clipped

    def _noise(self, like: Tokens, deviation: float, what: str) -> Tokens:
        generator = torch.Generator().manual_seed(self._seed(what))
        noise = torch.randn(like.shape, generator=generator, dtype=torch.float32)
        return (deviation * noise).to(like.device, like.dtype)

    def _seed(self, what: str) -> int:
        """Unpredictable unless a seed is set; then another for each round, client, step and use."""
        spec = self._spec
        if spec.noise_seed is None:
            return secrets.randbits(63)
        told = f"{spec.noise_seed}/{spec.seed}/{spec.client}/{what}"
        return int.from_bytes(hashlib.sha256(told.encode()).digest()[:7], "big")


def clip_tokens(vectors: Tokens, norm: float) -> Tokens:
    """Each token's vector, shortened to this norm where it is longer; 0 shortens nothing."""
    if not norm:
        return vectors
    wide = torch.promote_types(vectors.dtype, torch.float32)
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True, dtype=wide)
    lengths = lengths.clamp(min=torch.finfo(torch.float32).tiny)
    clipped: Tensor = vectors * (norm / lengths).clamp(max=1.0).to(vectors.dtype)
    return clipped
