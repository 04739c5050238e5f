"""LoRA's dropout, the same on whichever side of a cut a weight is.

An adapter sees its layer's input with some numbers set to zero and the others made larger,
``s B A (m ∘ x) / (1 − p)``, where the base sees all of it, as PEFT has it. The mask ``m`` is made
from the session's seed, the step, its micro-batch and the weight's name, and from nothing that went
before: a block that is run again in the backward pass, a request that is answered again, and a
session that shares a pass with others all have the mask that they would have had.
"""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..settings import SessionSpec


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """The masks of one micro-batch.

    Attributes
    ----------
    probability
        Of a number to be set to zero; below 1.
    seed, step, micro_batch
        What masks are made from, with a weight's name.
    """

    probability: float
    seed: int
    step: int
    micro_batch: int

    def kept(
        self, name: str, shape: tuple[int, ...], device: torch.device
    ) -> Bool[Tensor, "*batch in_features"]:
        """Which numbers of a layer's input are kept; other ones on another kind of device."""
        told = f"{self.seed}/{self.step}/{self.micro_batch}/{name}"
        digest = hashlib.sha256(told.encode()).digest()
        generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
        kept = torch.empty(shape, dtype=torch.bool, device=device)
        return kept.bernoulli_(1.0 - self.probability, generator=generator)

    def of(
        self, name: str, inputs: Float[Tensor, "*batch in_features"]
    ) -> Float[Tensor, "*batch in_features"]:
        """The input of a weight's layer as its adapter sees it."""
        return dropped(inputs, self.kept(name, inputs.shape, inputs.device), self.probability)


def dropped(
    inputs: Float[Tensor, "*batch in_features"],
    kept: Bool[Tensor, "*batch in_features"],
    probability: float,
) -> Float[Tensor, "*batch in_features"]:
    """Zero where nothing is kept; the rest larger, so that the mean stays."""
    return inputs.masked_fill(~kept, 0.0).mul_(1.0 / (1.0 - probability))


def dropout_of(spec: SessionSpec, step: int, micro_batch: int) -> Dropout | None:
    """The masks of a micro-batch in which a session trains; None where it has no dropout."""
    if not spec.lora_dropout:
        return None
    return Dropout(
        probability=spec.lora_dropout,
        seed=spec.dropout_seed,
        step=step,
        micro_batch=micro_batch,
    )


class DropoutMasks:
    """A client's masks, those of one micro-batch at a time.

    Parameters
    ----------
    spec
        Of its session.
    """

    def __init__(self, spec: SessionSpec) -> None:
        self._spec = spec
        self.current: Dropout | None = None

    def at(self, step: int, micro_batch: int) -> None:
        """What runs from here on belongs to this micro-batch, forth or back."""
        self.current = dropout_of(self._spec, step, micro_batch)

    def module(self, name: str) -> "MaskedInput | None":
        """What stands in the place of PEFT's own dropout in a weight's layer, if anything does."""
        return MaskedInput(name, self) if self._spec.lora_dropout else None


class MaskedInput(nn.Module):
    """Masks what comes, in training, by the masks of the micro-batch that runs."""

    def __init__(self, name: str, masks: DropoutMasks) -> None:
        super().__init__()
        self._name = name
        self._masks = masks

    def forward(self, inputs: Tensor) -> Tensor:
        """The input as the adapter sees it."""
        current = self._masks.current
        return current.of(self._name, inputs) if self.training and current else inputs
