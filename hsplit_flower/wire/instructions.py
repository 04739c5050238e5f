"""What the strategy instructs a client to do in one round, as values that a message can carry.

One message carries one whole local round: nothing may depend on state that is left in a client's
process.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import CodecError, ConfigError
from ..settings import Link, Model, SessionSpec, Settings, Trust, setting
from ..settings.hosts import ADDRESS
from ..types import LONGEST_ROUND_SECONDS
from .form import from_text, to_text

QUERY_KEY = "hsplit-query"
INSTRUCTIONS_KEY = "hsplit-instructions"
UPDATE_KEY = "hsplit-update"
METRICS_KEY = "hsplit-metrics"
IMPORTANCE_KEY = "hsplit-importance"
PROFILE_KEY = "hsplit-profile"

_TEXT = "text"


class WholeTraining(Settings):
    """What a client that has the whole model must know of its method."""

    is_whole: bool = setting(
        False, "Whether the client has the whole model, and there is no session on a worker."
    )
    trains_weights: bool = setting(
        False, "Whether all parameters of the model are trained, and no adapters."
    )
    merges: bool = setting(False, "Whether the global adapter goes into the weights.")
    tail_decay: float = setting(
        0.99, "What share of a pair's directions is before its tail.", gt=0, lt=1
    )
    tail_penalty: float = setting(
        0.0, "What the loss has added of the norms of pairs' tails; 0 for nothing.", ge=0
    )


class Instructions(Settings):
    """A client's part of one round: its half, its session, and how to reach it."""

    server_round: int = setting(description="Which round it is.", ge=0)
    num_examples: int = setting(description="What the client has said that it trains on.", ge=0)
    model: Model = setting(description="The base, as it is loaded.")
    base: str = setting(
        "", "What tells that base from others; empty where neither server nor worker knows it."
    )
    link: Link = setting(description="How the worker is talked to.")
    session: SessionSpec = setting(description="What the session on the worker was opened with.")
    whole: WholeTraining = setting(
        WholeTraining(), description="How the whole model is trained, where the client has it."
    )
    personal_steps: int = setting(
        0,
        "Steps that the client takes on an adapter of its own, or has taken on the one that it is "
        "to evaluate with; 0 in every round.",
        ge=0,
    )
    address: str = setting(
        "", "HOST:PORT of the worker.", wanted="HOST:PORT or nothing", pattern=f"^({ADDRESS})?$"
    )
    first_patience_seconds: float = setting(
        0.0,
        "How long a worker that has not answered yet in this round is tried; 0 for as long as one "
        "that has.",
        unit="seconds",
        ge=0,
        le=LONGEST_ROUND_SECONDS,
    )
    token: str = setting("", "Opens the session.", secret=True)
    trust: Trust = setting(Trust(), "How its channel is secured.")
    probe: bool = setting(False, "Whether the first step scores the weights' importance.")
    checkpointing: bool = setting(
        False, "Whether the client runs its blocks once more in the backward pass."
    )
    micro_batch_size: int = setting(
        0, "Examples that the client sends at a time; 0 for the whole batch.", ge=0
    )
    cached_halves: int = setting(
        0, "Loaded halves that the client's process keeps for later messages; 0 for none.", ge=0
    )
    predicted_bytes: float = setting(
        0.0, "What the plan says that it takes; 0 for no prediction.", unit="bytes", ge=0
    )
    budget_bytes: float = setting(0.0, "What it may take; 0 for no limit.", unit="bytes", ge=0)
    lease_gpu_fraction: float = setting(
        0.0,
        "The part of a card that a simulated client leases from Ray before it loads anything; 0 "
        "for none, as in every deployment.",
        ge=0,
        le=1,
    )
    lease_card_bytes: float = setting(0.0, "What clients share of that card.", unit="bytes", ge=0)

    def to_config(self) -> dict[str, Any]:
        """What a ``ConfigRecord`` carries."""
        return {_TEXT: to_text(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Instructions":
        """The instructions that a ``ConfigRecord`` carries.

        Raises
        ------
        ConfigError
            If they are of another version, or a value is missing or is not what it should be.
        """
        try:
            return from_text(cls, str(config[_TEXT]))
        except KeyError as error:
            raise ConfigError(
                f"the message's {INSTRUCTIONS_KEY!r} record lacks {error}: a strategy of "
                "hsplit_flower of the same version is wanted on the server"
            ) from error
        except CodecError as error:
            raise ConfigError(
                f"the message's {INSTRUCTIONS_KEY!r} record cannot be read: {error}"
            ) from error
