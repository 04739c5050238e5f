"""What stands in a block list where a half ends, so that the model's own code can run it.

A Hugging Face decoder walks its block list. Masks, positions, scaled embeddings and soft-capped
logits are made by code around that walk, different in each family. We leave that code alone and
change what it walks over: blocks that are elsewhere are passed through, the hidden state that came
over the wire is let in before the first of our blocks, and the walk stops after the last.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Passthrough(nn.Module):
    """Stands for a block, or a norm, that this half does not run: gives back what it is given.

    Some families look at attributes of the block that they call next, such as its kind of
    attention, or fill tables of its modules when they are made: it answers for all but tensors as
    the block in ``replaced`` would, and holds none of it.

    Where blocks give tuples of ``tuple_length`` values it gives one, too, in which nothing follows
    the hidden state.
    """

    def __init__(
        self, *, tuple_length: int | None = None, replaced: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.tuple_length = tuple_length
        # In a tuple, which keeps its parameters out of this half.
        self._replaced = (replaced,)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            (replaced,) = self.__dict__.get("_replaced", (None,))
            value = None if name.startswith("_") else getattr(replaced, name, None)
            if value is None or isinstance(value, Tensor):
                raise
            return value

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.tuple_length is None:
            return hidden
        return (hidden, *[None] * (self.tuple_length - 1))


class Inlet(Passthrough):
    """Stands just before the first block of a half and replaces the hidden state by ours."""

    def __init__(self, incoming: Tensor, *, tuple_length: int | None, replaced: nn.Module) -> None:
        super().__init__(tuple_length=tuple_length, replaced=replaced)
        self.incoming = incoming

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().forward(self.incoming)


class Reached(Exception):
    """Ends the walk: carries the hidden state after the last block of the half."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class Outlet(Passthrough):
    """Runs the last block of a half, then ends the walk: norm and head are not computed."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(replaced=block)
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.block(*args, **kwargs)
        raise Reached(output[0] if isinstance(output, tuple) else output)


class Checkpointed(Passthrough):
    """Runs a block without keeping what is inside it: the backward pass runs it once more."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(replaced=block)
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.block(*args, **kwargs)
        return checkpoint(self.block, *args, use_reentrant=False, **kwargs)


class AbsentEmbedding(nn.Module):
    """Stands for an embedding table of the other half: zeros of the shape that it would give.

    GPT-2 adds position embeddings even to ``inputs_embeds``; what is added here is thrown away at
    the inlet, only its shape matters.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, indices: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return torch.zeros(*indices.shape, self.width, device=indices.device)
