"""What one model costs at one workload: bytes and floating point operations, as plain numbers.

Tracing fills these values in (`trace_costs`); prediction and the solver only read them. Bytes of
weights depend on the model alone, bytes of activations and all operations on the workload too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..errors import ConfigError
from ..splitting.target_modules import target_weights
from ..types import Weight

FLOAT32_BYTES = 4
# Parameter, gradient and Adam's two moments of an adapter, float32 whatever the model's dtype.
ADAPTER_BYTES_PER_PARAMETER = 4 * FLOAT32_BYTES
# Labels and lengths travel as 32-bit integers.
WIRE_INTEGER_BYTES = 4
# What a token's hidden state is divided by before it is rounded to whole bytes.
WIRE_SCALE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The step that costs are predicted for.

    Attributes
    ----------
    batch_size, sequence_length
        The largest batch and the longest sequence, padding included.
    dtype_bytes
        Bytes of one number of the model's weights and hidden states: 2 or 4. Of a quantised base,
        those of its hidden states and of what is not quantised.
    wire_dtype_bytes
        Bytes of one number of the hidden states that are sent: 1, 2 or 4. What is sent as one byte
        has a scale of four bytes a token besides.
    attention
        ``"eager"`` keeps the score matrices for the backward pass, every other kind does not.
    quantised
        What the model's linear layers are quantised to, ``"nf4"`` or ``"int8"``; empty is as its
        configuration says.
    has_dropout
        Whether adapters see their inputs through masks, and so keep their own.
    """

    batch_size: int
    sequence_length: int
    dtype_bytes: int = FLOAT32_BYTES
    wire_dtype_bytes: int = FLOAT32_BYTES
    attention: str = "sdpa"
    quantised: str = ""
    has_dropout: bool = False

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be 1 or more, got {value}"
            for name, value in (
                ("batch_size", self.batch_size),
                ("sequence_length", self.sequence_length),
            )
            if value < 1
        ] + [
            f"{name} must be one of {list(allowed)}, got {value}"
            for name, value, allowed in (
                ("dtype_bytes", self.dtype_bytes, (2, 4)),
                ("wire_dtype_bytes", self.wire_dtype_bytes, (1, 2, 4)),
            )
            if value not in allowed
        ]
        if wrong:
            raise ConfigError("; ".join(wrong))

    @property
    def num_tokens(self) -> int:
        """Tokens of one step, padding included."""
        return self.batch_size * self.sequence_length

    @property
    def wire_scale_bytes(self) -> int:
        """Bytes that travel with each token's hidden state, besides its numbers."""
        return WIRE_SCALE_BYTES if self.wire_dtype_bytes == 1 else 0

    def sent_bytes(self, numbers: float) -> float:
        """Bytes on the wire of all tokens' hidden states, which are so many numbers."""
        return float(numbers * self.wire_dtype_bytes + self.num_tokens * self.wire_scale_bytes)


@dataclass(frozen=True, kw_only=True)
class SavedInput:
    """A layer input that is kept for the backward pass only because an adapter reads it.

    Adapters on ``weights`` (paths inside a block) read the same tensor, so it is kept once for all
    of them, and not at all where none of them is adapted. It may be the layers' input itself, or,
    where adapters compute in another dtype, a copy.
    """

    weights: frozenset[str]
    saved_bytes: float
    is_copy: bool = False


@dataclass(frozen=True, kw_only=True)
class PassCosts:
    """What running one piece of the model forward and backward costs.

    Attributes
    ----------
    saved_bytes
        Kept from forward to backward, without what adapters read.
    saved_inputs
        What is kept for the adapters besides.
    layer_inputs_bytes
        Inputs of all linear layers that are not kept anyway: scoring their importance needs them.
    working_bytes
        The most that is alive at one moment, forward or backward, beyond what is kept.
    scoring_bytes
        The same while importance is scored, which makes the gradient of one matrix at a time.
    forward_flops, backward_flops
        Floating point operations; the weights are frozen, so no weight gradients.
    """

    saved_bytes: float
    saved_inputs: tuple[SavedInput, ...] = ()
    layer_inputs_bytes: float = 0.0
    working_bytes: float
    scoring_bytes: float = 0.0
    forward_flops: float
    backward_flops: float

    @property
    def flops(self) -> float:
        return self.forward_flops + self.backward_flops

    def adapter_inputs(self, adapted: Iterable[str]) -> "AdapterInputs":
        """What is kept besides when the weights at these paths inside the block are adapted."""
        paths = frozenset(adapted)
        kept = [kept for kept in self.saved_inputs if kept.weights & paths]
        return AdapterInputs(
            originals_bytes=sum(kept.saved_bytes for kept in kept if not kept.is_copy),
            copies_bytes=sum(kept.saved_bytes for kept in kept if kept.is_copy),
        )


@dataclass(frozen=True, kw_only=True)
class AdapterInputs:
    """Inputs kept for adapters: the layers' own, which scoring keeps too, and copies of them."""

    originals_bytes: float = 0.0
    copies_bytes: float = 0.0

    @property
    def total_bytes(self) -> float:
        return self.originals_bytes + self.copies_bytes

    def __add__(self, other: "AdapterInputs") -> "AdapterInputs":
        return AdapterInputs(
            originals_bytes=self.originals_bytes + other.originals_bytes,
            copies_bytes=self.copies_bytes + other.copies_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class ModelCosts:
    """Everything that prediction and planning need to know of a model at a workload.

    Attributes
    ----------
    blocks
        Dotted path of the block list; a weight's path inside its block is what follows the index.
    weights
        All linear layers of all blocks.
    entry_bytes, exit_bytes
        Weights before the first and after the last block; a tied head counts in both.
    tied_bytes
        What a party that holds both ends holds once: the embedding of a tied model, else zero.
    block_bytes
        Weights and buffers, block by block.
    passes
        Of each block.
    shared_bytes
        Kept once for all blocks: position tables, masks.
    given_bytes
        All that is handed to the blocks alike, kept or not: who runs blocks again holds it.
    head
        Norm, head, logits and loss.
    hidden_bytes, wire_hidden_bytes
        The hidden state at a cut, in memory and on the wire.
    """

    workload: Workload
    model_type: str
    blocks: str
    weights: tuple[Weight, ...]
    entry_bytes: float
    exit_bytes: float
    tied_bytes: float
    block_bytes: tuple[float, ...]
    passes: tuple[PassCosts, ...]
    shared_bytes: float
    head: PassCosts
    hidden_bytes: float
    wire_hidden_bytes: float
    given_bytes: float = 0.0

    def __post_init__(self) -> None:
        if len(self.passes) != len(self.block_bytes):
            raise ConfigError(
                f"costs of {len(self.passes)} blocks and bytes of {len(self.block_bytes)}: one of "
                "each a block is wanted"
            )

    @property
    def num_blocks(self) -> int:
        return len(self.block_bytes)

    @property
    def crossing_bytes(self) -> float:
        """A hidden state at the cut as a tensor and as a message; none where there is no cut."""
        return self.hidden_bytes + self.wire_hidden_bytes if self.has_cut else 0.0

    @property
    def has_cut(self) -> bool:
        """Whether anything is sent in a step."""
        return self.wire_hidden_bytes > 0.0

    @property
    def adapter_activation_bytes_per_rank(self) -> float:
        """What one rank of one weight keeps for its backward pass: ``A x``, float32."""
        return float(self.workload.num_tokens * FLOAT32_BYTES)

    def path_in_block(self, weight: Weight) -> str:
        """``self_attn.q_proj`` of ``model.layers.3.self_attn.q_proj``."""
        return weight.name.removeprefix(f"{self.blocks}.{weight.block}.")

    def target_weights(self, names: Sequence[str] | None) -> tuple[Weight, ...]:
        """The weights that may be adapted, by the ends of their names.

        Raises
        ------
        ConfigError
            If a name is no weight's.
        """
        return target_weights(self.weights, names, model_type=self.model_type)


def sent_as(costs: ModelCosts, wire_dtype_bytes: int) -> ModelCosts:
    """The same computed, and hidden states sent in numbers of so many bytes."""
    workload = replace(costs.workload, wire_dtype_bytes=wire_dtype_bytes)
    numbers = costs.hidden_bytes / workload.dtype_bytes
    return replace(costs, workload=workload, wire_hidden_bytes=workload.sent_bytes(numbers))


def adapter_bytes(weight: Weight) -> float:
    """Parameters, gradients and moments of one trained rank: ``16 · (in + out)``."""
    return float(weight.parameters_per_rank * ADAPTER_BYTES_PER_PARAMETER)
