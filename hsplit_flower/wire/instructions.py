"""What the strategy orders a client to do in one round, as values that a message can carry.

One message carries one whole local round: nothing may depend on state that is left in a client's
process.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from ..errors import ConfigError
from ..types import Labels, ScaleRule, SessionSpec, Start, WireType

QUERY_KEY = "hsplit-query"
INSTRUCTIONS_KEY = "hsplit-instructions"
UPDATE_KEY = "hsplit-update"
METRICS_KEY = "hsplit-metrics"
IMPORTANCE_KEY = "hsplit-importance"
PROFILE_KEY = "hsplit-profile"

# Of a session, the values that are one of a few.
CHOICES: Mapping[str, type[Enum]] = {
    "labels": Labels,
    "start": Start,
    "scale_rule": ScaleRule,
    "wire_type": WireType,
}


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """A client's part of one round: its half, its session, and how to reach it.

    Attributes
    ----------
    predicted_bytes, budget_bytes
        What the plan says that it takes, and what it may take; 0 for no prediction and no limit.
    lease_gpu_fraction
        The part of a card that a simulated client leases from Ray before it loads anything; 0 for
        none, as in every deployment.
    lease_card_bytes
        What clients share of that card.
    micro_batch_size
        Examples that the client sends at a time; 0 for the whole batch.
    cached_halves
        How many loaded halves the client's process keeps for later messages; 0 for none.
    """

    server_round: int
    num_examples: int
    model: str
    revision: str
    dtype: str
    attention: str
    address: str
    token: str
    probe: bool
    max_message_bytes: int
    step_timeout_seconds: float
    predicted_bytes: float = 0.0
    budget_bytes: float = 0.0
    lease_gpu_fraction: float = 0.0
    lease_card_bytes: float = 0.0
    session: SessionSpec
    checkpointing: bool = False
    micro_batch_size: int = 0
    cached_halves: int = 1

    def to_config(self) -> dict[str, Any]:
        """Kebab-case scalars, for a ``ConfigRecord``."""
        values: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "session"
        }
        for field in fields(self.session):
            value = getattr(self.session, field.name)
            values[field.name] = json.dumps(dict(value)) if field.name == "ranks" else _plain(value)
        return {name.replace("_", "-"): value for name, value in values.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Instructions":
        """The order that a ``ConfigRecord`` carries.

        Raises
        ------
        ConfigError
            If a value is missing or is not what it should be.
        """
        try:
            values = {
                field.name: config[field.name.replace("_", "-")]
                for field in (*fields(cls), *fields(SessionSpec))
                if field.name != "session"
            }
            session = {field.name: values.pop(field.name) for field in fields(SessionSpec)}
            session["ranks"] = {str(k): int(v) for k, v in json.loads(session["ranks"]).items()}
            for name, kind in CHOICES.items():
                session[name] = kind(session[name])
            gradient_type = session["wire_gradient_type"]
            session["wire_gradient_type"] = WireType(gradient_type) if gradient_type else None
            return cls(session=SessionSpec(**session), **values)
        except KeyError as error:
            raise ConfigError(
                f"the message's {INSTRUCTIONS_KEY!r} record lacks {error}: a strategy of "
                "hsplit_flower of the same version is wanted on the server"
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"the message's {INSTRUCTIONS_KEY!r} record cannot be read: {error}"
            ) from error


def _plain(value: Any) -> Any:
    """A scalar for a ``ConfigRecord``, which knows no None: nothing is the empty string."""
    if value is None:
        return ""
    return value.value if isinstance(value, Enum) else value
