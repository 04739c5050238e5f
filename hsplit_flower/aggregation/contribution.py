"""What the clients bring to an aggregation, and whether it can be used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..adapters.low_rank import LowRank
from ..errors import AdapterError, NonFiniteError

LARGEST_NORM = 1e9
"""Far more than any weight that is trained has, and so little that no sum leaves float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contribution:
    """One client's ``B A`` and ``B⁰A⁰`` of one weight; both of rank 0 if it does not adapt it.

    ``kept`` is how much of its change ``B A − B⁰A⁰`` is used.
    """

    num_examples: int
    trained: LowRank
    initial: LowRank
    kept: float = 1.0

    def __post_init__(self) -> None:
        shares([self.num_examples])

    @property
    def is_holder(self) -> bool:
        """Whether the client adapts the weight at all."""
        return self.trained.rank > 0 or self.initial.rank > 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientUpdate:
    """What one client trained: ``B A`` by weight name, and the ``B⁰A⁰`` that it started from.

    A weight missing from ``initial`` started from zero. ``kept`` is how much of a weight's change
    is used; all of it where it is missing.
    """

    num_examples: int
    trained: Mapping[str, LowRank]
    initial: Mapping[str, LowRank] = field(default_factory=dict)
    kept: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shares([self.num_examples])
        untrained = sorted(set(self.initial) - set(self.trained))
        if untrained:
            raise AdapterError(
                f"a client started from {untrained} but trained none of them; give trained factors "
                "for every weight in initial"
            )

    def contribution(self, name: str, update: LowRank) -> Contribution:
        """What the client brings to the weight ``name``, whose global update is ``update``."""
        nothing = update.head(0)
        return Contribution(
            num_examples=self.num_examples,
            trained=self.trained.get(name, nothing),
            initial=self.initial.get(name, nothing),
            kept=self.kept.get(name, 1.0),
        )

    def changes(self) -> dict[str, LowRank]:
        """``B A − B⁰A⁰`` by weight name, of all weights that it adapts."""
        return {
            name: update - self.initial[name]
            if name in self.initial and self.initial[name].rank
            else update
            for name, update in self.trained.items()
            if update.rank
        }


def check_client(client: ClientUpdate, updates: Mapping[str, LowRank]) -> None:
    """Refuse a client whose factors do not fit the global adapter, or are no numbers to add.

    `aggregate_adapters` asks this of every client. Who would rather lose the client than the round
    asks first.

    Raises
    ------
    AdapterError
        A weight is not in ``updates`` or has another shape there, or what was trained is larger
        than `LARGEST_NORM`: finite factors too can have a product that float32 does not hold.
    NonFiniteError
        Factors hold NaN or infinity.
    """
    for name, factors in (*client.trained.items(), *client.initial.items()):
        if name not in updates:
            raise AdapterError(
                f"trained {name!r}, which is not among the {len(updates)} weights of the global "
                "adapter; use its names"
            )
        got = [factors.out_features, factors.in_features]
        wanted = [updates[name].out_features, updates[name].in_features]
        if got != wanted:
            raise AdapterError(
                f"weight {name!r} got an update of shape {got}, wanted {wanted}; "
                "check which model the client has loaded"
            )
        if not (torch.isfinite(factors.b).all() and torch.isfinite(factors.a).all()):
            raise NonFiniteError(
                f"the factors of {name!r} hold NaN or infinity; leave the client out"
            )
    for name, factors in client.trained.items():
        if (largest := _largest_norm(factors)) > LARGEST_NORM:
            raise AdapterError(
                f"the update of {name!r} has a norm of up to {largest:.1e}, at most "
                f"{LARGEST_NORM:.0e} is wanted: training has diverged; leave the client out"
            )


def _largest_norm(update: LowRank) -> float:
    """What the Frobenius norm is at most, ``Σ_j ‖b_j‖ ‖a_j‖``, however a direction is scaled."""
    columns = torch.linalg.vector_norm(update.b, dim=0, dtype=torch.float64)
    rows = torch.linalg.vector_norm(update.a, dim=1, dtype=torch.float64)
    return float(columns @ rows)


def shares(num_examples: Sequence[int]) -> list[float]:
    """``p_i = n_i / Σ n``: what share of a mean each client has. They sum to one."""
    for count in num_examples:
        if count <= 0:
            raise AdapterError(
                f"a client has {count} examples, wanted 1 or more; leave out clients without data"
            )
    total = sum(num_examples)
    return [count / total for count in num_examples]
