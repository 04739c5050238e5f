"""A linear layer whose matrix lies quantised, and is dequantised whenever it is used.

Numbers are stored as bitsandbytes stores them. The product is ours: bitsandbytes' own layers round
activations to 8 bits, choose their outlier columns by all rows of a batch, and repack weights where
a processor has a kernel for that, so that a client's numbers would depend on who shares a pass, and
on whether it trains. Here each row is ``x Wᵀ`` with the dequantised ``W``, forward and backward.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..errors import AdapterError

BLOCK_SIZE = 64
"""Numbers of a matrix that have one scale, where it is of 4 bits."""
SCALES_BLOCK_SIZE = 256
"""Scales that have one scale themselves, where these are quantised, too."""
_LARGEST_INT8 = 127.0
_NUM_CODES = 256
_LARGEST_NOISE = 0.02
_INITIALISED = "_is_hf_initialized"


class _Product(torch.autograd.Function):
    """``x Wᵀ + b``, which keeps nothing: the matrix is dequantised once more on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: "QuantisedLinear") -> Tensor:
        ctx.layer = layer
        bias = layer._parameters["bias"]
        matrix = layer.matrix(x.dtype)
        return functional.linear(x, matrix, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.matrix(gradient.dtype), None


class QuantisedLinear(nn.Linear):
    """A frozen linear layer with a quantised matrix.

    Parameters
    ----------
    out_features, in_features
        Shape of the matrix.
    kind
        ``nf4``, ``fp4`` or ``int8``.
    stored
        ``weight``, as bitsandbytes packs it; ``scales`` of rows or of blocks; where the latter are
        quantised, ``scale_scales``, ``scale_codes`` and ``scale_offset`` besides.
    bias
        What is added to the product, if anything is.
    computes_in
        Type of the numbers around the layer.
    block_size
        Numbers that have one scale in common, where the matrix is of 4 bits.
    """

    def __init__(
        self,
        out_features: int,
        in_features: int,
        *,
        kind: str,
        stored: Mapping[str, Tensor],
        bias: nn.Parameter | None,
        computes_in: torch.dtype,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        # Not that of `nn.Linear`, which would make a matrix.
        nn.Module.__init__(self)
        self.out_features = out_features
        self.in_features = in_features
        self.kind = kind
        self.computes_in = computes_in
        self.block_size = block_size
        self.weight = nn.Parameter(stored["weight"], requires_grad=False)
        self.register_parameter("bias", bias)
        for name, tensor in stored.items():
            if name != "weight":
                self.register_buffer(name, tensor)
        # Where transformers fills a model with random numbers, it is to leave these alone.
        for one in (self, self.weight):
            setattr(one, _INITIALISED, True)

    @torch.no_grad()
    def matrix(self, dtype: torch.dtype | None = None) -> Float[Tensor, "out_features in_features"]:
        """The dequantised matrix, made anew; by default of the numbers around the layer."""
        dtype = self.computes_in if dtype is None else dtype
        if self.kind == "int8":
            scales = self.get_buffer("scales").unsqueeze(1).mul(1.0 / _LARGEST_INT8)
            return self.weight.to(dtype).mul_(scales)
        from bitsandbytes.functional import QuantState, dequantize_4bit

        buffers = dict(self.named_buffers(recurse=False))
        of_scales = None
        if "scale_scales" in buffers:
            of_scales = QuantState(
                absmax=buffers["scale_scales"],
                code=buffers["scale_codes"],
                blocksize=SCALES_BLOCK_SIZE,
                dtype=torch.float32,
            )
        state = QuantState(
            absmax=buffers["scales"],
            shape=self._shape_to_dequantise,
            dtype=dtype,
            blocksize=self.block_size,
            quant_type=self.kind,
            offset=buffers.get("scale_offset"),
            state2=of_scales,
        )
        dequantised: Tensor = dequantize_4bit(self.weight, state)
        return dequantised.view(self.out_features, self.in_features)

    @property
    def _shape_to_dequantise(self) -> torch.Size:
        """One long row, where blocks of numbers go on in the matrix's next row.

        With AVX-512, bitsandbytes 0.50 reads the scales of such blocks from the wrong places.
        """
        if self.in_features % self.block_size:
            return torch.Size((self.out_features * self.in_features,))
        return torch.Size((self.out_features, self.in_features))

    def forward(
        self, x: Float[Tensor, "*batch in_features"]
    ) -> Float[Tensor, "*batch out_features"]:
        product: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kind={self.kind}"


class UnknownQuantisedLinear(QuantisedLinear):
    """One whose numbers are not there: it takes the memory of any other, and gives zeros."""

    @classmethod
    def of_shape(
        cls,
        out_features: int,
        in_features: int,
        *,
        kind: str,
        is_double: bool,
        bias: nn.Parameter | None,
        computes_in: torch.dtype,
    ) -> "UnknownQuantisedLinear":
        """On the meta device; ``is_double`` where the scales of 4-bit blocks are quantised."""
        return cls(
            out_features,
            in_features,
            kind=kind,
            stored=_stored_on_meta(out_features, in_features, kind=kind, is_double=is_double),
            bias=bias,
            computes_in=computes_in,
        )

    @torch.no_grad()
    def matrix(self, dtype: torch.dtype | None = None) -> Float[Tensor, "out_features in_features"]:
        """Zeros, made as the dequantised matrix is: beside the scales of its blocks."""
        scales = torch.zeros(self.get_buffer("scales").numel())
        shape = (self.out_features, self.in_features)
        matrix = torch.zeros(shape, dtype=self.computes_in if dtype is None else dtype)
        del scales
        return matrix


@torch.no_grad()
def fill_with_noise_(model: nn.Module) -> None:
    """Put layers with small random numbers in the place of those whose numbers are not there."""
    for path, module in list(model.named_modules()):
        if not isinstance(module, UnknownQuantisedLinear):
            continue
        stored = {"weight": module.weight.detach(), **dict(module.named_buffers(recurse=False))}
        for tensor in stored.values():
            if tensor.is_floating_point():
                tensor.uniform_(0.0, _LARGEST_NOISE)
            else:
                tensor.random_()
        if module.bias is not None:
            module.bias.zero_()
        layer = QuantisedLinear(
            module.out_features,
            module.in_features,
            kind=module.kind,
            stored=stored,
            bias=module.bias,
            computes_in=module.computes_in,
        )
        model.set_submodule(path, layer)


def refuse_quantised(module: nn.Module, name: str = "this layer") -> None:
    """Nothing is ever merged into a quantised weight.

    Raises
    ------
    AdapterError
        If the layer's is one.
    """
    if isinstance(module, QuantisedLinear):
        raise AdapterError(
            f"the weight of {name} is quantised ({module.kind}), and nothing is ever merged into "
            "one: leave the update beside it, in factors"
        )


def _stored_on_meta(
    out_features: int, in_features: int, *, kind: str, is_double: bool
) -> dict[str, Tensor]:
    with torch.device("meta"):
        if kind == "int8":
            return {
                "weight": torch.empty(out_features, in_features, dtype=torch.int8),
                "scales": torch.empty(out_features),
            }
        count = out_features * in_features
        blocks = -(-count // BLOCK_SIZE)
        weight = torch.empty(-(-count // 2), 1, dtype=torch.uint8)
        if not is_double:
            return {"weight": weight, "scales": torch.empty(blocks)}
        return {
            "weight": weight,
            "scales": torch.empty(blocks, dtype=torch.uint8),
            "scale_scales": torch.empty(-(-blocks // SCALES_BLOCK_SIZE)),
            "scale_codes": torch.empty(_NUM_CODES),
            "scale_offset": torch.empty(()),
        }
