"""All that crosses a round, as one value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord

from ..devices.source import DevicesNow
from ..methods import MethodState
from ..planning.standing_plan import StandingPlan
from ..types import Shortfall, Weight
from .client_registry import ClientRegistry
from .global_adapter import arrays_of_state
from .memory_corrections import MemoryCorrections


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What a run is between two rounds.

    Attributes
    ----------
    server_round
        The last one that was configured; 0 before the first.
    method
        The global adapter with all that was learnt, momentum and importance.
    arrays
        The same adapter as Flower carries it, under PEFT's keys; or all parameters of the model,
        under their names.
    standing
        The plan, and what it was made from; None before the first.
    corrections
        Whose memory is planned lower, for it ran out.
    clients
        What all that have been asked have said of themselves.
    devices
        What their devices had in the last round, and whose was away.
    left_out
        Who did not fit the last plan, and what each of them lacked.
    failed
        Who did not finish since it was last asked what it has.
    steps_per_client
        What a client's last round was long, for the next one's progress; 0 before the first.
    base
        What tells the base that is trained on from others (`wire.base_text`), as far as worker and
        server know it; empty where neither does, and before the first round.
    """

    server_round: int = 0
    method: MethodState
    arrays: ArrayRecord = field(compare=False)
    standing: StandingPlan | None = None
    corrections: MemoryCorrections = field(default_factory=MemoryCorrections)
    clients: ClientRegistry = field(default_factory=ClientRegistry)
    devices: DevicesNow = field(default_factory=DevicesNow)
    left_out: Mapping[int, Shortfall] = field(default_factory=dict)
    failed: frozenset[int] = frozenset()
    steps_per_client: int = 0
    base: str = ""

    @classmethod
    def fresh(cls, weights: Iterable[Weight]) -> "RunState":
        """Before the first round."""
        return cls(method=MethodState.fresh(weights), arrays=ArrayRecord())

    def with_method(self, method: MethodState) -> "RunState":
        """The same run with what its method knows by now."""
        return replace(self, method=method, arrays=arrays_of_state(method))
