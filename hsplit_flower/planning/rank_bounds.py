"""What keeps ranks within a client's budget: one bound for each moment of a round, by cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..costs.client_peak import (
    client_head_weights,
    client_memory_without_ranks,
    inside_bytes,
    scoring_bytes,
)
from ..costs.global_update import arriving_bytes, frozen_bytes_per_rank
from ..costs.model_costs import AdapterInputs, ModelCosts, adapter_bytes
from ..settings.planning import PlanSettings
from ..types import Labels, MemoryParts, Weight

# Five numbers a parameter where a step ends, of the four that a rank is costed at.
UPDATING_SHARE = 5 / 4


@dataclass(frozen=True, kw_only=True)
class Bound:
    """``fixed + share · Σ r_k c_k`` must be within a client's budget."""

    fixed_bytes: float
    share: float


@dataclass(frozen=True, kw_only=True)
class RankBounds:
    """What a client's memory leaves to its ranks, by cut, from 0 to all blocks.

    For clients that keep what is inside their blocks, or with ``checkpointing`` for those that do
    not. All inputs that adapters may keep are counted in; what ranks then add is linear in them.

    Attributes
    ----------
    weights
        Those that may be adapted.
    adapter_inputs
        What adapters on all of them keep of their layers' inputs, by block.
    """

    costs: ModelCosts
    settings: PlanSettings
    update_ranks: Mapping[str, int]
    weights: Sequence[Weight]
    adapter_inputs: Sequence[AdapterInputs]
    checkpointing: bool

    @cached_property
    def by_cut(self) -> Sequence[tuple[Bound, ...]]:
        """What keeps ranks within a client's budget, by cut: one bound for each moment of a step.

        A rank costs four numbers a parameter while training, two while importance is scored, and
        five where a step ends; what is costed is training.
        """
        scoring = self._scoring_share
        return [
            (
                Bound(fixed_bytes=training, share=1.0),
                Bound(fixed_bytes=scored, share=scoring),
                Bound(fixed_bytes=updating, share=UPDATING_SHARE),
            )
            for training, scored, updating in zip(
                self._training_bytes, self._scoring_bytes, self._updating_bytes, strict=True
            )
        ]

    def rank_bytes(self, weight: Weight) -> float:
        """``c_k``: a rank's factors, and what they keep for the backward pass."""
        return (
            adapter_bytes(weight)
            + self.costs.adapter_activation_bytes_per_rank
            + frozen_bytes_per_rank(
                self.costs,
                weight,
                self.update_ranks.get(weight.name, 0),
                start=self.settings.start,
            )
        )

    @cached_property
    def setting_up_bytes(self) -> Sequence[float]:
        """When the global update has arrived, whatever the ranks."""
        head = client_head_weights(self.costs, self.settings.labels)
        return [
            parts.weights_bytes + head + arriving_bytes(self.costs, cut, self.update_ranks)
            for cut, parts in enumerate(self._parts)
        ]

    @cached_property
    def _parts(self) -> Sequence[MemoryParts]:
        """A client's memory before any weight is adapted."""
        return [
            client_memory_without_ranks(
                self.costs,
                cut=cut,
                settings=self.settings,
                update_ranks=self.update_ranks,
                checkpointing=self.checkpointing,
            )
            for cut in range(self.costs.num_blocks + 1)
        ]

    @cached_property
    def _training_bytes(self) -> Sequence[float]:
        """Where a backward pass begins, with all that adapters on every target keep."""
        inputs = self.adapter_inputs
        return [
            replace(parts, probe_bytes=0.0).total_bytes
            + self._at_once([kept.total_bytes for kept in inputs[:cut]])
            for cut, parts in enumerate(self._parts)
        ]

    @cached_property
    def _scoring_bytes(self) -> Sequence[float]:
        """The same while importance is scored, which keeps the layers' inputs, adapted or not."""
        # A block that is run again is scored while the head does not run.
        labels = Labels.SERVER if self.checkpointing else self.settings.labels
        inputs = self.adapter_inputs
        layer_inputs = [one.layer_inputs_bytes for one in self.costs.passes]
        return [
            replace(parts, probe_bytes=max(0.0, scoring_bytes(self.costs, cut, labels))).total_bytes
            + self._at_once(layer_inputs[:cut])
            + self._at_once([kept.copies_bytes for kept in inputs[:cut]])
            for cut, parts in enumerate(self._parts)
        ]

    @cached_property
    def _updating_bytes(self) -> Sequence[float]:
        """Where a step ends."""
        head = client_head_weights(self.costs, self.settings.labels)
        kept = self.costs.given_bytes if self.checkpointing else self.costs.shared_bytes
        return [
            replace(parts, activations_bytes=kept, head_bytes=head, probe_bytes=0.0).total_bytes
            for parts in self._parts
        ]

    @cached_property
    def _scoring_share(self) -> float:
        """What a rank costs while importance is scored, of what it costs in training, at most."""
        return max(
            (
                1.0 - (adapter_bytes(weight) / 2) / self.rank_bytes(weight)
                for weight in self.weights
            ),
            default=1.0,
        )

    def _at_once(self, by_block: Sequence[float]) -> float:
        return inside_bytes(by_block, checkpointing=self.checkpointing)
