"""What the worker must know of one client's session for one round."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import Self

from ..types import LONGEST_ROUND_SECONDS, WireType
from .fields import setting
from .link import WireFormat
from .training import Recipe


class SessionSpec(Recipe, WireFormat):
    """A session's settings: the run's recipe and wire format, and the client's own part.

    ``seed`` makes the fresh factors; both sides of the cut derive them from it by weight name, so a
    weight starts the same wherever the cut is. ``wire_type`` is decided here, at the latest.
    """

    client: int = setting(description="The client's id.", ge=0)
    client_name: str = setting("", "What the client is called; empty is its id.")
    cut: int = setting(description="Blocks on the client.", ge=0)
    ranks: Mapping[str, Annotated[int, Field(ge=0)]] = setting(
        {},
        "Rank of the adapter of each weight that may have one; 0 adapts nothing in this round.",
        wanted="zero or more",
    )
    wire_type: WireType = setting(
        WireType.FLOAT32, "Type of hidden states on the wire.", strict=False
    )
    seed: int = setting(0, "Of fresh factors.", ge=0)
    dropout_seed: int = setting(0, "Of what adapters do not see in training.", ge=0)
    server_round: int = setting(1, "Which round of the run it is.", ge=0)
    num_rounds: int = setting(1, "How many the run has.", ge=0)
    num_steps: int = setting(
        0, "Steps that the client says it takes in the round; 0 where it does not say.", ge=0
    )
    max_tokens: int = setting(
        2**20, "Tokens that one request may bring, padding included.", unit="tokens", ge=1
    )
    round_timeout_seconds: float = setting(
        3600.0,
        "How long the round may last: so long the client may wait for its turn, and its session "
        "for it.",
        unit="seconds",
        gt=0,
        le=LONGEST_ROUND_SECONDS,
    )
    shares_adapters: bool = setting(
        False, "Whether all sessions of the round step one pair of factors, each in its turn."
    )
    truncates: bool = setting(
        False,
        "Whether the session has of the global adapter only the directions that it trains; "
        "otherwise it has the others, too, frozen.",
    )
    train: bool = setting(True, "Whether the session trains, or only evaluates.")
    kept_tokens: int = setting(
        0,
        "Tokens of all its rows, padding included, whose keys and values the session may keep to "
        "write texts; 0 is for a session that trains or evaluates.",
        unit="tokens",
        ge=0,
    )

    adapter: str | None = setting(
        None,
        "What tells the adapter of which the client has the other part, and writes with; empty for "
        "none. One that is not said is not compared with the worker's.",
    )

    @classmethod
    def to_write(cls, *, cut: int, kept_tokens: int, **others: Any) -> Self:
        """One in which texts are written: a request at a time, of what may be kept at most."""
        return cls(
            client=0,
            cut=cut,
            kept_tokens=kept_tokens,
            max_tokens=kept_tokens,
            in_flight=1,
            train=False,
            **others,
        )

    @property
    def writes(self) -> bool:
        """Whether texts are written in it, and nothing is trained or evaluated."""
        return self.kept_tokens > 0

    @property
    def purpose(self) -> str:
        """What it is for, in a word."""
        if self.writes:
            return "write"
        return "train" if self.train else "evaluate"

    def rate_of_step(self, step: int) -> float:
        """The learning rate of a step of the round, counted from 1."""
        return self.rate_of(
            step,
            num_steps=self.num_steps,
            server_round=self.server_round,
            num_rounds=self.num_rounds,
        )

    @property
    def shown_client(self) -> str:
        """The client's name; its id where it has none."""
        return self.client_name or str(self.client)
