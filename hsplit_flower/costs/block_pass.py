"""One pass through one decoder block, forward and backward, with adapters on it.

On fake tensors, which have no memory; on real ones where the block looks at its numbers, as the
routing of a mixture of experts does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from ..importance import scored
from ..splitting.linear import matrix_of
from ..splitting.quantised_linear import QuantisedLinear
from ..types import Weight
from .metering import LiveBytes, SavedBytes, storage_bytes, storage_key


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockCall:
    """A block, and what its model gives it: tensors of the right shapes, on any device."""

    block: nn.Module
    hidden: Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class BlockPass:
    """What one pass kept, needed besides, and computed.

    Attributes
    ----------
    kept
        Bytes kept for the backward pass without the adapters, by storage.
    kept_by_adapter
        What each weight's adapter keeps of its input, by path and storage.
    layer_inputs
        Inputs of the weights' layers that scoring keeps, by storage.
    given
        Bytes of what the model hands to its blocks besides the hidden state (position tables,
        masks), by the ``id`` of its tensor, which is the same for blocks that share it.
    shared
        Those of them that are kept for the backward pass.
    working_bytes
        Most bytes alive at a moment beyond what is kept for the backward pass.
    """

    kept: Mapping[int, int]
    kept_by_adapter: Mapping[str, Mapping[int, int]]
    layer_inputs: Mapping[int, int]
    given: Mapping[int, int]
    shared: Mapping[int, int]
    working_bytes: int
    forward_flops: int
    backward_flops: int


class AdapterProbe:
    """An adapter of rank 1 that notes what autograd keeps because of it.

    A forward hook for a linear layer: ``y + B (A x)`` in float32, as PEFT computes it. If
    ``is_scored``, the weight's gradient is made in the backward pass, as scoring importance does.
    """

    def __init__(self, weight: Weight, *, is_scored: bool) -> None:
        self.a = torch.zeros(1, weight.in_features, requires_grad=True)
        self.b = torch.zeros(weight.out_features, 1, requires_grad=True)
        self.inputs = SavedBytes(ignore=[self.a, self.b])
        self.products = SavedBytes(ignore=[self.a, self.b])
        self.scored = SavedBytes()
        self.layer_inputs: dict[int, Tensor] = {}
        self._is_scored = is_scored

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inputs = args[0]
        with self.inputs.recording():
            product = functional.linear(inputs.to(torch.float32), self.a)
        with self.products.recording():
            update = functional.linear(product, self.b)
        output = (output + update).to(output.dtype)
        if self._is_scored:
            self.layer_inputs[storage_key(inputs)] = inputs.detach()
            assert isinstance(module, (nn.Linear, Conv1D))
            stored = None if isinstance(module, QuantisedLinear) else matrix_of(module)

            def score(x: Tensor, delta: Tensor) -> None:
                _score(matrix_of(module) if stored is None else stored, x, delta)

            # Counted apart: what scoring keeps is what adapters may keep too.
            with self.scored.recording():
                output = scored(output, inputs, score)
        return output

    def forget(self) -> None:
        """Let go of what was noted, so that the backward pass can free it as it goes."""
        self.inputs.forget()
        self.products.forget()
        self.scored.forget()
        self.layer_inputs.clear()


@torch.no_grad()
def _score(weight: Tensor, inputs: Tensor, gradient: Tensor) -> None:
    """The arithmetic of the gradient-weight product, whose value a fake tensor does not have."""
    x, delta = (tensor.detach().flatten(0, -2).float() for tensor in (inputs, gradient))
    (delta.T @ x).mul_(weight).abs_().sum()


def run_block(
    call: BlockCall,
    weights: Mapping[str, Weight],
    *,
    has_boolean_mask: bool = False,
    is_scored: bool = False,
    is_real: bool = False,
) -> BlockPass:
    """Run a block with an adapter on each of ``weights``, given by their paths inside it.

    Parameters
    ----------
    call
        The block and what it is given.
    weights
        Where adapters are.
    has_boolean_mask
        Eager attention adds a mask of floating point numbers; fused kinds want a boolean one.
    is_scored
        Whether the weights' importance is scored.
    is_real
        Whether the block, its weights and its input are random numbers with memory of their own.
    """
    with nullcontext() if is_real else FakeTensorMode():
        make = _maker(has_boolean_mask=has_boolean_mask, is_real=is_real)
        hidden = make(call.hidden).requires_grad_()
        asked = (call.args, dict(call.kwargs))
        # What a block is given twice is there once.
        given = {id(leaf): make(leaf) for leaf in tree_leaves(asked) if isinstance(leaf, Tensor)}
        args, kwargs = tree_map_only(Tensor, lambda leaf: given[id(leaf)], asked)
        held = [*call.block.named_parameters(), *call.block.named_buffers()]
        state = {name: make(tensor) for name, tensor in held}

        def forward() -> Tensor:
            output = torch.func.functional_call(call.block, state, (hidden, *args), kwargs)
            hidden_after: Tensor = output[0] if isinstance(output, tuple) else output
            return hidden_after

        probes = {
            path: AdapterProbe(weight, is_scored=is_scored) for path, weight in weights.items()
        }
        with _attached(call.block, probes):
            return _measure(forward, list(state.values()), hidden, given, probes)


def _measure(
    forward: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    hidden: Tensor,
    given: Mapping[int, Tensor],
    probes: Mapping[str, AdapterProbe],
) -> BlockPass:
    factors = [factor for probe in probes.values() for factor in (probe.a, probe.b)]
    saved = SavedBytes(ignore=[*parameters, *factors])
    live = LiveBytes(ignore=[*parameters, *factors, hidden, *given.values()])
    # The counter takes operations apart: what the meter sees must come first.
    with FlopCounterMode(display=False) as counter, live:
        with saved.recording():
            output = forward()
        forward_flops, forward_peak = counter.get_total_flops(), live.peak_bytes
        kept = saved.storages
        kept_by_adapter = {path: probe.inputs.storages for path, probe in probes.items()}
        layer_inputs = {
            key: storage_bytes(tensor)
            for probe in probes.values()
            for key, tensor in probe.layer_inputs.items()
        }
        made = _merged([kept, *kept_by_adapter.values(), layer_inputs])
        for tensor in [hidden, *given.values()]:
            made.pop(storage_key(tensor), None)
        kept_bytes = sum(made.values()) + sum(p.products.total_bytes for p in probes.values())
        saved.forget()
        for probe in probes.values():
            probe.forget()
        gradient = torch.zeros_like(output)
        # These two cross the cut, and are counted as being in flight.
        crossing_bytes = storage_bytes(output) + storage_bytes(gradient)
        live.reset_peak()
        output.backward(gradient)
        backward_peak = live.peak_bytes - crossing_bytes
        flops = counter.get_total_flops()
    return BlockPass(
        kept=kept,
        kept_by_adapter=kept_by_adapter,
        layer_inputs=layer_inputs,
        given={name: storage_bytes(tensor) for name, tensor in given.items()},
        shared={
            name: storage_bytes(tensor)
            for name, tensor in given.items()
            if storage_key(tensor) in kept
        },
        working_bytes=max(0, max(forward_peak, backward_peak) - kept_bytes),
        forward_flops=forward_flops,
        backward_flops=flops - forward_flops,
    )


def _maker(*, has_boolean_mask: bool, is_real: bool) -> Callable[[Tensor], Tensor]:
    """A function that makes a CPU tensor of another's shape: small random numbers, no mask."""

    def make(tensor: Tensor) -> Tensor:
        is_mask = tensor.ndim == 4 and tensor.is_floating_point()
        if is_mask and has_boolean_mask:
            return torch.ones(tensor.shape, dtype=torch.bool)
        made = torch.zeros(tensor.shape, dtype=tensor.dtype)
        if is_real and not is_mask and made.is_floating_point():
            made.normal_(std=0.02)
        return made

    return make


@contextmanager
def _attached(block: nn.Module, probes: Mapping[str, AdapterProbe]) -> Iterator[None]:
    handles = [
        block.get_submodule(path).register_forward_hook(probe) for path, probe in probes.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _merged(records: Sequence[Mapping[int, int]]) -> dict[int, int]:
    return {key: size for record in records for key, size in record.items()}
