"""Exact aggregation for clients that each have a LoRA of their own, of whatever rank.

    W ← W + Σ_i p_i (s_i B_i A_i − s_i B⁰_i A⁰_i)

The sum is kept, and every client is sent the leading directions of it that its own rank has room
for. ``B⁰A⁰`` is what that client was sent, read back as PEFT reads it; so what was not sent, for
lack of rank or by rounding, is in the sum still and comes later (error feedback, as in
`error_feedback`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..adapters import LowRank, PeftSettings, UpdateSum
from ..adapters.peft_form import PeftForm
from .contribution import ClientUpdate
from .noise_free import change, check_clients


@dataclass(frozen=True, kw_only=True, eq=False)
class SentFactors:
    """What clients of the same ranks are sent, as tensors of PEFT and as the updates they are.

    Directions whose product is zero are in ``state`` alone: where LoRA starts, every update has
    rank 0.
    """

    state: Mapping[str, Tensor]
    updates: Mapping[str, LowRank]

    @classmethod
    def of(cls, state: Mapping[str, Tensor], form: PeftForm) -> "SentFactors":
        """Tensors of this form, of any ranks."""
        updates = form.updates_of(state)
        return cls(state=state, updates={name: _without_zeros(updates[name]) for name in updates})


@dataclass(frozen=True, kw_only=True, eq=False)
class LoraSum:
    """All that was learnt of an adapter.

    Attributes
    ----------
    form
        How its factors look at the clients.
    sums
        Of each weight, all of it.
    room
        How many directions of each the widest client has room for.
    leading
        The leading ones, as many as that or all.
    """

    form: PeftForm
    sums: Mapping[str, UpdateSum]
    room: Mapping[str, int]
    leading: Mapping[str, LowRank]

    @classmethod
    def starting_from(cls, state: Mapping[str, Tensor], config: PeftSettings) -> "LoraSum":
        """What ``get_peft_model_state_dict(model)`` gives, scale folded in.

        Raises
        ------
        AdapterError
            If that is more or less than plain LoRA of this configuration.
        """
        form = PeftForm.of(state, config)
        given = SentFactors.of(state, form).updates
        sums = {name: UpdateSum(content=update) for name, update in given.items()}
        return cls(form=form, sums=sums, room={}, leading={}).with_room(form.ranks)

    def with_room(self, room: Mapping[str, int]) -> "LoraSum":
        """The same with so many leading directions of each weight at hand."""
        leading = {
            name: total.leading(room[name], near=self.leading.get(name))
            for name, total in self.sums.items()
        }
        return replace(self, room=room, leading=leading)

    def sent(self, ranks: Mapping[str, int], *, seed: int) -> SentFactors:
        """What a client of these ranks is sent, for which there must be ``room``.

        ``seed`` is the source of directions that the sum lacks.
        """
        state = self.form.state_of(self.leading, ranks, seed=seed)
        return SentFactors.of(state, self.form)

    def plus(self, clients: Sequence[ClientUpdate], *, common: Mapping[str, LowRank]) -> "LoraSum":
        """All that is known after a round.

        Parameters
        ----------
        clients
            What each trained, and what it started from.
        common
            What most of them started from: it is taken off once for all of them.

        Raises
        ------
        AdapterError, NonFiniteError
            A client cannot be used; named by its place in ``clients``.
        """
        check_clients(clients, common)
        sums = {
            name: total.plus(
                *change(
                    common[name], [client.contribution(name, common[name]) for client in clients]
                )
            )
            for name, total in self.sums.items()
        }
        return replace(self, sums=sums).with_room(self.room)

    def held_back_share(self, updates: Mapping[str, LowRank]) -> float:
        """What share of ``Σ ‖ΔW‖²`` these, taken from the sums, lack."""
        whole = sum(total.squared_norm() for total in self.sums.values())
        sent = sum(total.explained_by(updates[name]) for name, total in self.sums.items())
        return min(1.0, max(0.0, 1.0 - sent / whole)) if whole else 0.0


def _without_zeros(update: LowRank) -> LowRank:
    """Without the directions whose product is zero: LoRA starts with nothing else."""
    is_used = update.b.any(dim=0) & update.a.any(dim=1)
    return update.weighted(is_used.to(torch.float64))
