"""What every cut costs, tabulated once for all clients: devices differ, the model does not."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from ..costs.model_costs import AdapterInputs, ModelCosts
from ..costs.seconds import blocks_flops, client_seconds, worker_seconds
from ..costs.worker_peak import (
    session_rank_bytes,
    worker_blocks_bytes,
    worker_memory_without_sessions,
)
from ..settings.planning import PlanSettings
from ..types import DeviceProfile, Labels, Weight
from .cuts import ClientOptions, WorkerOptions
from .rank_bounds import RankBounds
from .ranks import GreedySteps, greedy_ranks, greedy_steps, is_known, uniform_rank


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Bytes by cut, from 0 to all blocks, and rank assignments by cut and budget.

    For clients that keep what is inside their blocks, or with ``checkpointing`` for those that do
    not.

    A cut is held to be affordable if every weight below it can have the lowest rank, with all
    inputs that adapters may keep counted in; what ranks then add is linear in them.
    """

    costs: ModelCosts
    settings: PlanSettings
    update_ranks: Mapping[str, int]
    importance: Mapping[str, float] | None
    checkpointing: bool = False
    _steps_by_side: dict[tuple[str, int], GreedySteps] = field(default_factory=dict)
    _known_ranks: dict[tuple[str, int, float], dict[str, int]] = field(default_factory=dict)

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """The weights that may be adapted."""
        return self.costs.target_weights(self.settings.target_modules)

    @property
    def cuts(self) -> range:
        return range(self.costs.num_blocks + 1)

    def client_rank_bytes(self, cut: int) -> dict[str, float]:
        """``c_k`` of the weights below a cut: factors, and what they keep for the backward pass."""
        return {
            weight.name: self._bounds.rank_bytes(weight)
            for weight in self.weights
            if weight.block < cut
        }

    def session_rank_bytes(self, cut: int) -> dict[str, float]:
        """``c_k`` of the weights above a cut."""
        return {
            weight.name: session_rank_bytes(
                self.costs,
                weight,
                self.update_ranks.get(weight.name, 0),
                start=self.settings.start,
            )
            for weight in self.weights
            if weight.block >= cut
        }

    @cached_property
    def lowest_rank_bytes(self) -> Sequence[float]:
        """A client with the lowest rank everywhere: the least that a cut may be given."""
        return self.uniform_rank_bytes(self.settings.rank_unit)

    @cached_property
    def highest_rank_bytes(self) -> Sequence[float]:
        """A client with the highest rank everywhere: what it can make use of."""
        return self.uniform_rank_bytes(self.settings.allowed_ranks[-1])

    def uniform_rank_bytes(self, rank: int) -> Sequence[float]:
        """A client with this rank on all weights below each cut."""
        taken = [rank * sum(self.client_rank_bytes(cut).values()) for cut in self.cuts]
        return [
            max(setting_up, *(bound.fixed_bytes + bound.share * ranks for bound in bounds))
            for setting_up, bounds, ranks in zip(
                self._bounds.setting_up_bytes, self._bounds.by_cut, taken, strict=True
            )
        ]

    @cached_property
    def worker_base_bytes(self) -> Sequence[float]:
        """The worker's half, and the step that is running on it, by the lowest cut."""
        without = worker_memory_without_sessions(
            self.costs, settings=self.settings, update_ranks=self.update_ranks
        ).total_bytes
        runs = self.settings.labels is Labels.SERVER
        return [without + (self._step_bytes(cut) if runs else 0.0) for cut in self.cuts]

    @cached_property
    def session_waiting_bytes(self) -> Sequence[float]:
        """What a session keeps of a step that waits for its gradient from a client with labels."""
        waits = self.settings.labels is Labels.CLIENT
        return [self._step_bytes(cut) if waits else 0.0 for cut in self.cuts]

    @cached_property
    def session_bytes(self) -> Sequence[float]:
        """The least that one session takes, or what the settings grant it."""
        granted = self.settings.worker_session_bytes
        unit = self.settings.rank_unit
        return [
            waiting
            + (unit * sum(self.session_rank_bytes(cut).values()) if granted is None else granted)
            for cut, waiting in enumerate(self.session_waiting_bytes)
        ]

    def client_options(self, profile: DeviceProfile, deepest: int) -> ClientOptions:
        """What the cuts of one client would cost; ``deepest`` is the largest that it can hold."""
        roomy = largest_within(self.highest_rank_bytes, profile.memory_bytes)
        labels = self.settings.labels
        fixed = client_seconds(self.costs, cut=0, profile=profile, labels=labels)
        return ClientOptions(
            seconds=[fixed + flops / profile.flops_per_second for flops in self._flops_below],
            deepest=deepest,
            roomy=min(deepest, max(roomy, self.settings.min_cut)),
        )

    def worker_options(self, worker: DeviceProfile) -> WorkerOptions:
        """What a client's cut would cost the worker."""
        return WorkerOptions(
            seconds=[
                worker_seconds(
                    self.costs,
                    cut=cut,
                    worker=worker,
                    labels=self.settings.labels,
                    checkpointing=self.settings.worker_checkpointing,
                )
                for cut in self.cuts
            ],
            base_bytes=self.worker_base_bytes,
            session_bytes=self.session_bytes,
            budget_bytes=worker.memory_bytes,
            round_share=self.settings.round_share,
        )

    def client_ranks(self, cut: int, memory_bytes: float) -> dict[str, int]:
        """Ranks of the weights below a cut, from what the fixed costs leave."""
        left = min(
            (memory_bytes - bound.fixed_bytes) / bound.share for bound in self._bounds.by_cut[cut]
        )
        return self._ranks("client", cut, left)

    def session_ranks(self, cut: int, budget_bytes: float) -> dict[str, int]:
        """Ranks of the weights above a cut, from one session's share of the worker."""
        return self._ranks("session", cut, budget_bytes)

    def _ranks(self, side: str, cut: int, budget_bytes: float) -> dict[str, int]:
        key = (side, cut, budget_bytes)
        if key not in self._known_ranks:
            self._known_ranks[key] = self._assign(side, cut, budget_bytes)
        return self._known_ranks[key]

    def _assign(self, side: str, cut: int, budget_bytes: float) -> dict[str, int]:
        cost = self.client_rank_bytes if side == "client" else self.session_rank_bytes
        allowed = self.settings.allowed_ranks
        if self.settings.one_rank or not is_known(self.importance):
            rank_bytes = cost(cut)
            rank = uniform_rank(rank_bytes, budget_bytes, allowed_ranks=allowed)
            return dict.fromkeys(rank_bytes, rank)
        if (side, cut) not in self._steps_by_side:
            whole = self._client_steps if side == "client" else self._session_steps
            self._steps_by_side[side, cut] = whole.only(cost(cut).keys())
        return greedy_ranks(self._steps_by_side[side, cut], budget_bytes)

    @cached_property
    def _client_steps(self) -> GreedySteps:
        return self._greedy_steps(self.client_rank_bytes(self.costs.num_blocks))

    @cached_property
    def _session_steps(self) -> GreedySteps:
        return self._greedy_steps(self.session_rank_bytes(0))

    def _greedy_steps(self, rank_bytes: Mapping[str, float]) -> GreedySteps:
        return greedy_steps(
            rank_bytes,
            self.importance or {},
            allowed_ranks=self.settings.allowed_ranks,
            gain_base=self.settings.gain_base,
        )

    @cached_property
    def _bounds(self) -> RankBounds:
        return RankBounds(
            costs=self.costs,
            settings=self.settings,
            update_ranks=self.update_ranks,
            weights=self.weights,
            adapter_inputs=self._all_inputs,
            checkpointing=self.checkpointing,
        )

    @cached_property
    def _all_inputs(self) -> Sequence[AdapterInputs]:
        """What adapters on all targets of a block keep of its layers' inputs, by block."""
        paths: list[list[str]] = [[] for _ in range(self.costs.num_blocks)]
        for weight in self.weights:
            paths[weight.block].append(self.costs.path_in_block(weight))
        return [
            one.adapter_inputs(held) for one, held in zip(self.costs.passes, paths, strict=True)
        ]

    @cached_property
    def _flops_below(self) -> Sequence[float]:
        """What a client's blocks compute in a step, by cut."""
        each = [blocks_flops([one], checkpointing=self.checkpointing) for one in self.costs.passes]
        return list(accumulate(each, initial=0.0))

    def _step_bytes(self, cut: int) -> float:
        """What a step above this cut keeps at most: every weight adapted with the highest rank."""
        by_block = [0] * self.costs.num_blocks
        for weight in self.weights:
            by_block[weight.block] += 1
        per_weight = self.settings.allowed_ranks[-1] * self.costs.adapter_activation_bytes_per_rank
        adapters = [
            inputs.copies_bytes + per_weight * number
            for inputs, number in zip(self._all_inputs[cut:], by_block[cut:], strict=True)
        ]
        kept = max(adapters, default=0.0) if self.settings.worker_checkpointing else sum(adapters)
        return worker_blocks_bytes(self.costs, cut, self.settings) + kept


def largest_within(needed_bytes: Sequence[float], budget_bytes: float) -> int:
    """Largest cut whose need is within the budget, -1 if there is none; needs only rise."""
    return bisect_right(needed_bytes, budget_bytes) - 1
