"""What a model's blocks are given, and which of them are alike: one of each kind is traced.

Hybrids mix blocks of several kinds, and hand a mask of its own to each kind.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from transformers import PreTrainedModel

from ..splitting import Architecture, MasksAreFull
from ..splitting.boundary import Passthrough
from .block_pass import BlockCall
from .model_costs import Workload


class _Noting(Passthrough):
    """Stands for a block: writes down what it is given, and passes the hidden state on."""

    def __init__(
        self, block: nn.Module, calls: list[BlockCall], *, tuple_length: int | None
    ) -> None:
        super().__init__(tuple_length=tuple_length, replaced=block)
        # In a tuple, which keeps its parameters where they are.
        self._noted = (block, calls)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        block, calls = self._noted
        calls.append(BlockCall(block=block, hidden=hidden, args=args, kwargs=kwargs))
        return super().forward(hidden)


def block_calls(
    model: PreTrainedModel, architecture: Architecture, workload: Workload
) -> list[BlockCall]:
    """What each block of an empty model is given; none of them runs."""
    owner_path, _, list_name = architecture.blocks.rpartition(".")
    owner = model.get_submodule(owner_path)
    held: nn.ModuleList = getattr(owner, list_name)
    shape = (workload.batch_size, workload.sequence_length)
    tokens = torch.ones(shape, dtype=torch.long, device="meta")
    calls: list[BlockCall] = []
    length = architecture.tuple_length
    noting = nn.ModuleList(_Noting(block, calls, tuple_length=length) for block in held)
    setattr(owner, list_name, noting)
    try:
        with torch.no_grad(), MasksAreFull():
            model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    finally:
        setattr(owner, list_name, held)
    return calls


def first_alike(calls: Sequence[BlockCall]) -> list[int]:
    """For each block, the first one that is made and called as it is."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(_kind_of(call), index) for index, call in enumerate(calls)]


def _kind_of(call: BlockCall) -> Hashable:
    """Modules with their switches, shapes of what they hold, and of what the block is given.

    Numbers are left out, since one of them is the block's own index.
    """
    modules = tuple(
        (name, type(module), tuple((k, v) for k, v in vars(module).items() if _is_switch(v)))
        for name, module in call.block.named_modules()
    )
    held = tuple(
        (name, tensor.shape)
        for name, tensor in [*call.block.named_parameters(), *call.block.named_buffers()]
    )
    leaves, structure = tree_flatten((call.args, dict(call.kwargs)))
    return modules, held, str(structure), tuple(_shape_of(leaf) for leaf in leaves)


def _is_switch(value: object) -> bool:
    return value is None or isinstance(value, (str, bool))


def _shape_of(given: object) -> Hashable:
    if isinstance(given, Tensor):
        return given.shape, given.dtype
    return given if _is_switch(given) else type(given)
