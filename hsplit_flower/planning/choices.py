"""Which cuts a client may have, and for which of them it must run its blocks twice."""

from dataclasses import replace
from functools import cached_property

from ..types import DeviceProfile
from .cuts import ClientOptions, WorkerOptions
from .tables import Tables, largest_within


class CutChoices:
    """A client's cuts, each kept in memory the faster way that fits.

    Keeping what is inside the blocks is faster; running them once more in the backward pass
    (gradient checkpointing) makes room for deeper cuts. The seconds of the cuts still rise with the
    cut, so that the bisection over them stays exact.

    Parameters
    ----------
    keeping
        Of clients that keep what is inside their blocks.
    """

    def __init__(self, keeping: Tables) -> None:
        self._keeping = keeping
        may_recompute = keeping.settings.checkpointing
        self._recomputing = replace(keeping, checkpointing=True) if may_recompute else keeping
        self.costs, self.settings = keeping.costs, keeping.settings
        self._min_cut = keeping.settings.min_cut
        self.max_cut = keeping.settings.deepest_cut(keeping.costs.num_blocks)

    @cached_property
    def least_bytes(self) -> float:
        """What the smallest cut needs."""
        return self.needed_bytes(self._min_cut)

    def needed_bytes(self, cut: int) -> float:
        """What a cut needs with the lowest ranks, kept in memory the way that takes less."""
        return min(self._keeping.lowest_rank_bytes[cut], self._recomputing.lowest_rank_bytes[cut])

    def roomy_bytes(self, cut: int, profile: DeviceProfile) -> float:
        """What a cut needs with the highest ranks, kept as its client's roomy cuts are."""
        return self._for_room(profile).highest_rank_bytes[cut]

    def options(self, profile: DeviceProfile) -> ClientOptions:
        """What the cuts of one client would cost.

        A cut that needs recomputation counts as cramped where another does not: it is taken back
        unless it shortens the step.
        """
        kept = self._deepest_kept(profile)
        deepest = self._deepest(self._recomputing, profile)
        keeping = self._keeping.client_options(profile, kept)
        if deepest <= kept:
            return keeping
        recomputing = self._recomputing.client_options(profile, deepest)
        has_choice = self._for_room(profile) is self._keeping
        return ClientOptions(
            seconds=[*keeping.seconds[: kept + 1], *recomputing.seconds[kept + 1 :]],
            deepest=deepest,
            roomy=keeping.roomy if has_choice else recomputing.roomy,
        )

    def worker_options(self, worker: DeviceProfile) -> WorkerOptions:
        """What a client's cut would cost the worker."""
        return self._keeping.worker_options(worker)

    def tables(self, cut: int, profile: DeviceProfile) -> Tables:
        """The tables by which a client with this cut is planned."""
        return self._keeping if cut <= self._deepest_kept(profile) else self._recomputing

    def _for_room(self, profile: DeviceProfile) -> Tables:
        """Of the faster way, if it holds any cut at all."""
        can_keep = self._deepest_kept(profile) >= self._min_cut
        return self._keeping if can_keep else self._recomputing

    def _deepest_kept(self, profile: DeviceProfile) -> int:
        return self._deepest(self._keeping, profile)

    def _deepest(self, tables: Tables, profile: DeviceProfile) -> int:
        return min(largest_within(tables.lowest_rank_bytes, profile.memory_bytes), self.max_cut)
