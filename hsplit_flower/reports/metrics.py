"""The lines of ``metrics.jsonl``: rounds of training, evaluations by clients and by the server.

What sort of line it is says ``kind``. Clients stand under their names.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ..errors import ConfigError
from .client_records import EvaluatedClient, LeftOut, PersonalisedClient, TrainedClient
from .record import VERSION, Record, check_version

METRICS_FILE = "metrics.jsonl"


class Line(Record):
    """What every line has."""

    version: int = Field(default=VERSION, description="Of the file's schema.")


class RoundLine(Line):
    """What every line of a federated run has."""

    server_round: int = Field(description="Counted from 1; 0 is before training.")


class TrainingLine(RoundLine):
    """A round of training."""

    kind: Literal["training"] = Field(default="training", description="What the line is of.")
    completed: bool = Field(description="Whether enough clients finished for it to count.")
    seconds: float = Field(default=0.0, description="From its start to its end, as measured.")
    simulated_seconds: float = Field(
        default=0.0, description="It would have taken on the simulated devices; 0 without a fleet."
    )
    replanned: bool = Field(default=False, description="Whether cuts and ranks were chosen anew.")
    planning_reason: str = Field(default="", description="Why, or why not.")
    drift: float = Field(default=0.0, description="How far importance has moved since the plan.")
    largest_rank: int = Field(default=0, description="Of the global adapter after it.")
    held_back_share: float = Field(
        default=0.0, description="Of what was learnt, by squared size, what is kept for later."
    )
    dropped_share: float = Field(default=0.0, description="Likewise, what is lost.")
    importance: dict[str, float] = Field(
        default_factory=dict, description="After it, by weight; empty before anything is known."
    )
    moved: tuple[str, ...] = Field(default=(), description="Who began anew as its worker died.")
    clients: dict[str, TrainedClient] = Field(
        default_factory=dict, description="Who had a part, by name."
    )
    left_out: dict[str, LeftOut] = Field(
        default_factory=dict, description="Who was asked and had none, by name."
    )


class ClientEvaluationLine(RoundLine):
    """The global model, evaluated by clients on examples of their own."""

    kind: Literal["client-evaluation"] = Field(
        default="client-evaluation", description="What the line is of."
    )
    loss: float | None = Field(default=None, description="Mean over all clients' labelled tokens.")
    perplexity: float | None = Field(default=None, description="exp of the loss.")
    seconds: float = Field(default=0.0, description="From its start to its end, as measured.")
    clients: dict[str, EvaluatedClient] = Field(
        default_factory=dict, description="Who had a part, by name."
    )
    left_out: dict[str, LeftOut] = Field(
        default_factory=dict, description="Who was asked and had none, by name."
    )


class ServerEvaluationLine(RoundLine):
    """The global model, evaluated by the server."""

    kind: Literal["server-evaluation"] = Field(
        default="server-evaluation", description="What the line is of."
    )
    loss: float = Field(description="Mean of a labelled token.")
    perplexity: float = Field(description="exp of the loss.")
    num_tokens: int = Field(default=0, description="Labelled tokens.")
    best_round: int | None = Field(
        default=None, description="After which the perplexity was lowest so far."
    )


class PersonalisationLine(RoundLine):
    """What adapters that clients keep for themselves gained on their own held-out examples."""

    kind: Literal["personalisation"] = Field(
        default="personalisation", description="What the line is of."
    )
    seconds: float = Field(default=0.0, description="From its start to its end, as measured.")
    clients: dict[str, PersonalisedClient] = Field(
        default_factory=dict, description="Who was asked, by name."
    )


class CentralisedLine(Line):
    """A model that one machine has trained on all texts (``hsplit centralised``)."""

    kind: Literal["centralised"] = Field(default="centralised", description="What the line is of.")
    step: int = Field(description="After how many steps; 0 is before training.")
    perplexity: float = Field(description="Of the dev set.")
    train_loss: float | None = Field(default=None, description="Mean of a labelled token.")
    seconds: float = Field(default=0.0, description="Of training.")


FederatedLine = TrainingLine | ClientEvaluationLine | ServerEvaluationLine | PersonalisationLine
AnyLine = FederatedLine | CentralisedLine

KINDS: Mapping[str, type[AnyLine]] = {
    "training": TrainingLine,
    "client-evaluation": ClientEvaluationLine,
    "server-evaluation": ServerEvaluationLine,
    "personalisation": PersonalisationLine,
    "centralised": CentralisedLine,
}


def read_line(values: Mapping[str, Any], where: str = METRICS_FILE) -> AnyLine:
    """The line that these values are.

    Raises
    ------
    ConfigError
        If they are of another version, of no known kind, or lack something.
    """
    check_version(values, where)
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        raise ConfigError(
            f"{where} holds a line of kind {values.get('kind')!r}: one of {', '.join(KINDS)} is "
            "wanted"
        )
    return kind.read(values, where)
