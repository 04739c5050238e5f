"""``plan.json``: who has which cut and ranks by now, why, and who has none.

It is the one place where the ids stand that Flower gives nodes.
"""

from pydantic import Field

from ..types import Binding
from .client_records import LeftOut
from .record import VERSION, Record

PLAN_FILE = "plan.json"


class PlannedClient(Record):
    """A client's part of the plan; costs are of one step, as predicted."""

    node: int = Field(description="Its id at Flower.")
    cut: int = Field(description="Blocks that the client has.")
    binds: Binding = Field(
        description="What keeps it from a deeper cut: memory (it does not hold one, or not with "
        "the highest ranks), link or client (others would wait for its link, or its computing), "
        "worker (nothing: it takes all of the worker that it may), method (which has one cut)."
    )
    why: str = Field(description="The same in words.")
    ranks: dict[str, int] = Field(default_factory=dict, description="By weight.")
    checkpointing: bool = Field(default=False, description="Whether it runs its blocks once more.")
    budget_bytes: float = Field(default=0.0, description="Memory that it has.")
    memory: dict[str, float] = Field(
        default_factory=dict, description="What is predicted to be taken, by purpose."
    )
    client_seconds: float = Field(default=0.0, description="Its own, and on its link.")
    worker_seconds: float = Field(default=0.0, description="The worker's for it.")
    wire_bytes: float = Field(default=0.0, description="Both ways.")

    @property
    def predicted_bytes(self) -> float:
        """Memory that it is predicted to take."""
        return sum(self.memory.values())


class LeftOutNode(LeftOut):
    """A client without a part, and its id."""

    node: int = Field(description="Its id at Flower.")


class PlanRecord(Record):
    """The plan of a round."""

    version: int = Field(default=VERSION, description="Of the file's schema.")
    server_round: int = Field(description="Which round goes by it.")
    planning_reason: str = Field(default="", description="Why it was made, or stands.")
    clients: dict[str, PlannedClient] = Field(
        default_factory=dict, description="Who has a part, by name."
    )
    left_out: dict[str, LeftOutNode] = Field(
        default_factory=dict, description="Who was asked and has none, by name."
    )
