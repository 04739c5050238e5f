"""The values that travel between the rooms: frozen, checked when made, free of torch.

Everything here is data. What is computed from it lives in the room that computes it. Units are in
the names; paper symbols are given in the docstrings (HSplitLoRA, arXiv 2505.02795).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

IGNORED_LABEL = -100
"""The label of a token that the model is not asked to predict, as in Hugging Face models."""

HIGHEST_PORT = 2**16 - 1

LONGEST_ROUND_SECONDS = 7 * 24 * 3600.0
"""The longest time that a round may take.

A session is kept for its client until the round must be over, so this is also the longest time that
a worker keeps the sessions of a server that has died.
"""


class Labels(str, Enum):
    """Who computes the loss, and so sees the labels: for a language model they are the text."""

    SERVER = "server"
    CLIENT = "client"


class Start(str, Enum):
    """What a client's trainable factors are at the start of a round.

    ``RESTART`` trains fresh factors on top of the frozen global update (the paper's way);
    ``CONTINUE`` trains the leading singular directions of the global update itself. ``FACTORS`` is
    for methods whose global adapter is one pair of factors, which all clients go on with as it is.
    """

    RESTART = "restart"
    CONTINUE = "continue"
    FACTORS = "factors"


class Dividing(str, Enum):
    """Over whom the mean of one weight is taken.

    ``ALL``: every client that completed the round; one without the weight contributes zero.
    ``HOLDERS``: only the clients that adapt the weight.
    """

    ALL = "all"
    HOLDERS = "holders"


class AdapterType(str, Enum):
    """What the factors of the global adapter are rounded to when it is sent."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


class ScaleRule(str, Enum):
    """How an adapter's scale follows from its rank ``r`` and ``α``.

    ``LORA``: ``α / r`` (Hu et al. 2021, arXiv 2106.09685, section 4.1). ``RSLORA``: ``α / √r``
    (Kalajdzievski 2023, arXiv 2312.03732). ``CONSTANT``: ``α``, whatever the rank.
    """

    LORA = "lora"
    RSLORA = "rslora"
    CONSTANT = "constant"


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What adapters' products are multiplied by in training; clients differ in rank, so by rank."""

    alpha: float = 32.0
    rule: ScaleRule = ScaleRule.LORA

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be a positive number, got {self.alpha}")

    def of(self, rank: int) -> float:
        """The scale of an adapter of this rank; one of rank 0 has nothing to be scaled."""
        if rank == 0 or self.rule is ScaleRule.CONSTANT:
            return self.alpha
        return self.alpha / (rank if self.rule is ScaleRule.LORA else math.sqrt(rank))


@dataclass(frozen=True, kw_only=True)
class Span:
    """The blocks ``[start, stop)`` of a decoder."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"a span needs 0 <= start <= stop, got [{self.start}, {self.stop})")

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, block: int) -> bool:
        return self.start <= block < self.stop


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One linear layer's matrix inside a decoder block, under the name that PEFT gives it.

    The matrix is ``[out_features, in_features]`` whatever the layer stores (GPT-2's ``Conv1D``
    stores the transpose).
    """

    name: str
    block: int
    in_features: int
    out_features: int

    @property
    def parameters_per_rank(self) -> int:
        """Trainable numbers that one rank of this weight adds."""
        return self.in_features + self.out_features


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """What a client (or the split worker) has: ``M_i``, ``F_i`` and the link of HSplitLoRA."""

    memory_bytes: float
    flops_per_second: float
    up_bytes_per_second: float = math.inf
    down_bytes_per_second: float = math.inf
    round_trip_seconds: float = 0.0

    def __post_init__(self) -> None:
        rates = ("flops_per_second", "up_bytes_per_second", "down_bytes_per_second")
        for name in ("memory_bytes", *rates):
            value = getattr(self, name)
            if math.isnan(value) or value <= 0:
                raise ValueError(f"{name} must be a positive number, got {value}")
        if not 0 <= self.round_trip_seconds < math.inf:
            raise ValueError(
                f"round_trip_seconds must be zero or more, got {self.round_trip_seconds}"
            )


@dataclass(frozen=True, kw_only=True)
class ClientInfo:
    """One client: what its device has, how many examples it trains on, what it calls itself.

    ``num_steps`` are those that it will take in a round; 0 where it does not say. ``base`` is what
    of its base nobody else could confirm (`wire.base_text`).
    """

    profile: DeviceProfile
    num_examples: int
    name: str = ""
    num_steps: int = 0
    partition: int | None = None
    num_partitions: int | None = None
    base: str = ""


@dataclass(frozen=True, kw_only=True)
class MemoryParts:
    """Predicted peak memory of one party, by what it is spent on, in bytes."""

    weights_bytes: float = 0.0
    adapters_bytes: float = 0.0
    frozen_factors_bytes: float = 0.0
    activations_bytes: float = 0.0
    head_bytes: float = 0.0
    probe_bytes: float = 0.0
    smashed_data_bytes: float = 0.0

    @property
    def total_bytes(self) -> float:
        return (
            self.weights_bytes
            + self.adapters_bytes
            + self.frozen_factors_bytes
            + self.activations_bytes
            + self.head_bytes
            + self.probe_bytes
            + self.smashed_data_bytes
        )


Binding = Literal["memory", "link", "worker", "client", "method"]
"""What keeps a client's cut from being deeper; a plan's record says what each means."""


@dataclass(frozen=True, kw_only=True)
class ClientPlan:
    """What one client is asked to do: its cut, a rank for every weight on either side, the costs.

    ``span`` is the client's ``[0, s_i)``; the worker's session holds the remaining blocks.
    A weight that is missing from ``ranks``, or has rank 0, is not adapted by this client.
    ``checkpointing`` says that its blocks are run once more in the backward pass, to keep less.
    ``binds`` says what keeps the cut from being deeper, ``why`` in words (`planning.cut_limits`).
    """

    span: Span
    ranks: Mapping[str, int]
    checkpointing: bool = False
    memory: MemoryParts = field(default_factory=MemoryParts)
    client_seconds: float = 0.0
    worker_seconds: float = 0.0
    wire_bytes: float = 0.0
    binds: Binding | None = None
    why: str = ""

    @property
    def cut(self) -> int:
        return self.span.stop


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """Why a client is left out of a plan: the smallest cut it may have does not fit its budget.

    ``budget_bytes`` is what its device has. It is planned for that, divided by ``correction``.
    """

    needed_bytes: float
    budget_bytes: float
    correction: float = 1.0

    @property
    def lacking_bytes(self) -> float:
        return self.needed_bytes - self.budget_bytes / self.correction


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A cut and ranks for every client that fits, the reason for every client that does not."""

    clients: Mapping[int, ClientPlan]
    left_out: Mapping[int, Shortfall] = field(default_factory=dict)
    step_seconds: float = 0.0


class WireType(str, Enum):
    """What floating-point tensors are on the wire.

    ``INT8`` rounds every token's hidden state to whole multiples of 1/127 of its largest magnitude,
    which travels along.
    """

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"


_LEAST_OF_A_WORKER = {"num_blocks": 1, "lowest_cut": 0, "max_sessions": 1, "max_message_bytes": 0}


@dataclass(frozen=True, kw_only=True)
class WorkerDescription:
    """What a split worker holds and has; ``max_sessions`` of them may be open at a time.

    ``memory_bytes`` is what sessions and their steps may take: free memory beside its loaded half.
    ``instance`` is another one for each start of a worker: whoever knows it sees that its sessions
    are gone. ``base`` tells its base from others (`wire.base_text`). No message may be larger than
    ``max_message_bytes``; 0 says nothing of that. ``adapter`` tells which one it was given to write
    texts with; empty is none.
    """

    model: str
    num_blocks: int
    lowest_cut: int
    memory_bytes: float
    flops_per_second: float
    dtype: str
    max_sessions: int
    base: str = ""
    max_message_bytes: int = 0
    instance: str = field(default="", compare=False)
    adapter: str = ""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    def __post_init__(self) -> None:
        wrong = [name for name, least in _LEAST_OF_A_WORKER.items() if getattr(self, name) < least]
        wrong += [
            name
            for name in ("memory_bytes", "flops_per_second")
            if math.isnan(getattr(self, name)) or getattr(self, name) < 0
        ]
        if wrong:
            raise ValueError(f"a worker cannot have such {' and '.join(wrong)}")
