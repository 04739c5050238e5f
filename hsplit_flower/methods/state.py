"""What a method knows between rounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..adapters import LowRank, UpdateSum, compress
from ..aggregation import ClientUpdate, bounded, check_client
from ..importance import ImportanceHistory
from ..settings import Aggregation
from ..types import Weight
from .method import Method


@dataclass(frozen=True, kw_only=True)
class ClientResult:
    """What one client brings home from a round, from both sides of its cut.

    ``updates`` are the folded factors that it ends with, of the ranks that it started with.
    ``weights`` are all parameters of its model, by name, where no adapter is trained. ``kept`` is
    how much of a weight's change an exact sum uses; all of it where it is missing.
    """

    num_examples: int
    updates: Mapping[str, LowRank] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    importance: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MethodState:
    """The global adapter, and what a method keeps beside it.

    Attributes
    ----------
    updates
        ``ΔW_g`` of every weight: in canonical form where it is aggregated exactly, else the pair of
        factors that the clients' mean is.
    sums
        All that was learnt, of which the adapter is what fits into its size; none where it is all.
    velocities
        How far the last round went, of which momentum goes a share again.
    weights
        All parameters of the model, by name, where no adapter is trained; none before the first
        round, in which they are the base's.
    client_ranks
        What clients have lowered their ranks to, by client and weight.
    importance
        ``Ī_k``, over the rounds so far.
    held_back_share, dropped_share
        How much of ``Σ ‖ΔW‖²`` is in the sums and not in the adapter, and how much the last round
        has given up.
    """

    updates: Mapping[str, LowRank]
    sums: Mapping[str, UpdateSum] = field(default_factory=dict)
    velocities: Mapping[str, UpdateSum] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    client_ranks: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    importance: ImportanceHistory = field(default_factory=ImportanceHistory)
    held_back_share: float = 0.0
    dropped_share: float = 0.0

    @classmethod
    def fresh(cls, weights: Iterable[Weight]) -> "MethodState":
        """Before the first round: nothing is known of any weight."""
        return cls(
            updates={
                weight.name: LowRank.zeros(weight.out_features, weight.in_features)
                for weight in weights
            }
        )

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of every weight's update."""
        return {name: update.rank for name, update in self.updates.items()}

    def exact_updates(self) -> dict[str, LowRank]:
        """All that was learnt, with what the adapter has no room for; in canonical form."""
        return {
            name: self.sums[name].canonical() if name in self.sums else update
            for name, update in self.updates.items()
        }

    def sum_of(self, name: str) -> UpdateSum:
        """All that was learnt of one weight."""
        return self.sums.get(name) or UpdateSum(content=self.updates[name])

    def velocity_of(self, name: str) -> UpdateSum:
        """How far the last round went with one weight."""
        update = self.updates[name]
        return self.velocities.get(name) or UpdateSum(content=update.head(0))

    @property
    def held_bytes(self) -> int:
        """What is kept beside the adapter, which nobody is sent."""
        kept = (*self.sums.values(), *self.velocities.values())
        return sum(total.num_bytes for total in kept)

    def with_updates(
        self, given: Mapping[str, LowRank], method: Method, options: Aggregation
    ) -> "MethodState":
        """The same after another adapter was taken over; weights that it lacks have none."""
        taken = {name: given.get(name, mine.head(0)) for name, mine in self.updates.items()}
        fresh = MethodState(
            updates=taken, client_ranks=self.client_ranks, importance=self.importance
        )
        if method.keeps_pair:
            return fresh
        whole = {name: compress(update) for name, update in taken.items()}
        if not method.is_bounded(options):
            return replace(fresh, updates=whole)
        sums = {name: UpdateSum(content=update) for name, update in whole.items()}
        return fresh.with_sums(sums, options)

    def with_sums(self, sums: Mapping[str, UpdateSum], options: Aggregation) -> "MethodState":
        """The same with these sums, and the adapter that is the head of them."""
        adapter = bounded(sums, options, near=self.updates)
        return replace(
            self,
            updates=adapter.updates,
            sums=adapter.sums,
            held_back_share=adapter.held_back_share,
            dropped_share=adapter.dropped_share,
        )

    def check(self, trained: Mapping[str, LowRank]) -> None:
        """Refuse a client's update that cannot be aggregated, before it is.

        Raises
        ------
        AdapterError, NonFiniteError
            Naming the weight.
        """
        check_client(ClientUpdate(num_examples=1, trained=trained), self.updates)
