"""The global adapter over the rounds: exact, factored, and the same thing as Flower's arrays."""

from collections.abc import Mapping

from flwr.app import ArrayRecord

from ..adapters import LowRank, compress, from_state_dict, initial_update, to_state_dict
from ..aggregation import ClientUpdate, Dividing, Momentum, aggregate_adapters, check_client
from ..errors import ConfigError
from ..splitting import Architecture
from ..types import Span, Start


class GlobalAdapter:
    """``ΔW_g`` of every weight, in canonical form.

    Parameters
    ----------
    architecture
        Of the model: which weights there are.
    start
        What clients start a round from, and so what the aggregation takes off.
    rank_cap
        Largest rank; what it cuts off is kept for later rounds. None for none.
    dividing
        Over whom a weight's mean is taken when not every client adapts it.
    momentum
        How much of the round before each round also goes (`aggregation.Momentum`); 0 for none.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        start: Start,
        rank_cap: int | None = None,
        dividing: Dividing = Dividing.ALL,
        momentum: float = 0.0,
    ) -> None:
        self._architecture = architecture
        self._start = start
        self._rank_cap = rank_cap
        self._dividing = dividing
        self._momentum = Momentum(momentum)
        self._arrays: ArrayRecord | None = None
        self._remainders: Mapping[str, LowRank] = {}
        self.dropped_energy = 0.0
        self.updates: dict[str, LowRank] = {
            weight.name: LowRank.zeros(weight.out_features, weight.in_features)
            for weight in architecture.weights
        }

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of every weight's update."""
        return {name: update.rank for name, update in self.updates.items()}

    def arrays(self) -> ArrayRecord:
        """The adapter as Flower carries it, under PEFT's keys."""
        if self._arrays is None:
            self._arrays = _record(self.updates)
        return self._arrays

    def adopt(self, arrays: ArrayRecord) -> None:
        """Take over an adapter that is not the one given out last.

        Raises
        ------
        ConfigError
            If it has weights that the model lacks, or of another shape.
        """
        if arrays is self._arrays:
            return
        given = from_state_dict(arrays.to_torch_state_dict())
        known = {weight.name: weight for weight in self._architecture.weights}
        if unknown := sorted(set(given) - set(known)):
            raise ConfigError(
                f"the initial adapter has weights that the model lacks: {unknown[:3]}"
            )
        for name, update in given.items():
            got = [update.out_features, update.in_features]
            wanted = [known[name].out_features, known[name].in_features]
            if got != wanted:
                raise ConfigError(
                    f"the initial adapter's {name!r} is for a weight of {got}, the model's is "
                    f"{wanted}"
                )
        self.updates = {
            name: compress(given[name]).update
            if name in given
            else LowRank.zeros(weight.out_features, weight.in_features)
            for name, weight in known.items()
        }
        self._remainders = {}
        self._momentum.forget()
        self._arrays = arrays

    def below(self, span: Span) -> ArrayRecord:
        """The part of a client that holds the blocks in ``span``."""
        names = [weight.name for weight in self._architecture.weights_in(span)]
        return _record({name: self.updates[name] for name in names})

    def check(self, trained: Mapping[str, LowRank]) -> None:
        """Refuse a client's update that cannot be aggregated, before it is."""
        check_client(ClientUpdate(num_examples=1, trained=trained), self.updates)

    def aggregate(
        self, trained: Mapping[int, Mapping[str, LowRank]], examples: Mapping[int, int]
    ) -> None:
        """Add the weighted mean of what the clients have changed (NAA).

        Parameters
        ----------
        trained
            By client, both sides of its cut: the folded factors that it ends with, of the rank that
            it started with.
        examples
            By client, how many examples it trains on.
        """
        clients = [
            ClientUpdate(
                num_examples=examples[client],
                trained=factors,
                initial={
                    name: initial_update(self.updates[name], factor.rank, self._start)
                    for name, factor in factors.items()
                },
            )
            for client, factors in trained.items()
        ]
        result = aggregate_adapters(
            self.updates,
            clients,
            remainders=self._momentum.carried(self._remainders),
            max_rank=self._rank_cap,
            dividing=self._dividing,
        )
        self._momentum.learn(
            self.updates,
            result.updates,
            remainders_before=self._remainders,
            remainders_after=result.remainders,
        )
        self.updates, self._remainders = dict(result.updates), result.remainders
        self.dropped_energy = max(result.dropped_energy.values(), default=0.0)
        self._arrays = None


def _record(updates: Mapping[str, LowRank]) -> ArrayRecord:
    return ArrayRecord(to_state_dict(updates))
