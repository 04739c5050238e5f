"""How much each weight matters for one batch: the gradient-weight product.

For a linear layer ``y = W x`` inside a backward pass, the gradient of the frozen weight is
``G = δᵀ x`` with ``δ = ∂loss/∂y``, both flattened over tokens. It is computed layer by layer as the
backward pass comes by and reduced at once, so no more than one layer's ``G`` exists at a time
(HSplitLoRA, arXiv 2505.02795, important weight identification).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..splitting.linear import linear_at, matrix_of


@torch.no_grad()
def gradient_weight_product(
    weight: Float[Tensor, "out_features in_features"],
    inputs: Float[Tensor, "*batch in_features"],
    output_gradient: Float[Tensor, "*batch out_features"],
) -> float:
    """``I = Σ_ij |W_ij G_ij|`` with ``G = δᵀ x``, in float32."""
    x = inputs.detach().flatten(0, -2).float()  # [tokens, in_features]
    delta = output_gradient.detach().flatten(0, -2).float()  # [tokens, out_features]
    gradient = delta.T @ x  # [out_features, in_features]
    return float(gradient.mul_(weight).abs_().sum())


class _Scored(torch.autograd.Function):
    """Passes a layer's output on, and hands its gradient and the layer's input to ``record``.

    The input is kept as autograd keeps its own: where a block is checkpointed it is not kept at
    all, but comes again when the block is run once more.
    """

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, inputs: Tensor, record: Callable[[Tensor, Tensor], None]
    ) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.record = record
        # Neither a view, which autograd forbids to change in place, as blocks do that add to what
        # their layers gave; nor a copy, which would take memory.
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inputs,) = ctx.saved_tensors
        ctx.record(inputs, gradient)
        return gradient, None, None


def scored(output: Tensor, inputs: Tensor, record: Callable[[Tensor, Tensor], None]) -> Tensor:
    """A layer's output; on the way back its gradient goes to ``record``, with the layer's input."""
    passed: Tensor = _Scored.apply(output, inputs, record)  # type: ignore[no-untyped-call]
    return passed


@contextmanager
def probing(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, float]]:
    """Score the named weights in the one forward and backward pass that runs inside.

    The scores fill up as the backward pass comes by. ``|W G|`` does not add up: of several
    micro-batches the first that goes back is scored.

    Yields
    ------
    dict[str, float]
        ``I_k`` by weight name.
    """
    scores: dict[str, float] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(_Watch(scores, name, model))
        for name in names
    ]
    try:
        yield scores
    finally:
        for handle in handles:
            handle.remove()


class _Watch:
    """A layer's hook, which scores its weight in the first pass backward."""

    def __init__(self, scores: dict[str, float], name: str, model: nn.Module) -> None:
        self._scores, self._name, self._layer = scores, name, linear_at(model, name)

    def __call__(
        self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor
    ) -> Tensor | None:
        if not torch.is_grad_enabled():
            return None
        # Below the first adapter nothing asks for gradients: the probe does.
        if not output.requires_grad:
            output.requires_grad_()
        return scored(output, args[0], self._score)

    def _score(self, inputs: Tensor, gradient: Tensor) -> None:
        if self._name not in self._scores:
            # Asked for here: where it is quantised, it is there for as long as it is scored.
            matrix = matrix_of(self._layer)
            self._scores[self._name] = gradient_weight_product(matrix, inputs, gradient)
