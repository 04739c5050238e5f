"""Noise-free adapter aggregation (NAA): the exact weighted mean of what the clients trained.

Averaging the factors of LoRA adapters adds cross terms, ``mean(B) mean(A) ≠ mean(B A)``, and needs
equal ranks. Concatenating them does neither (HSplitLoRA, arXiv 2505.02795; the idea is FLoRA's,
arXiv 2409.05976):

    ΔW_g + Σ_i p_i (B_i A_i − B⁰_i A⁰_i) = [B_g, p_1 B_1, −p_1 B⁰_1, …] · [A_g; A_1; A⁰_1; …]

The sum is then compressed without loss. This module knows neither messages nor rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adapters.low_rank import TOLERANCE, Compression, LowRank, compress, concatenate
from ..errors import AdapterError, NonFiniteError
from ..types import Dividing
from .contribution import ClientUpdate, Contribution, check_client


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregation:
    """The new global update by weight name, and what a rank cap cut off.

    ``remainders`` holds the weights that lost something to the cap; give it back in the next round.
    ``dropped_energy`` is, for every weight, its remainder's share of the squared Frobenius norm.
    """

    updates: Mapping[str, LowRank]
    remainders: Mapping[str, LowRank]
    dropped_energy: Mapping[str, float]


def aggregate_adapters(
    updates: Mapping[str, LowRank],
    clients: Sequence[ClientUpdate],
    *,
    remainders: Mapping[str, LowRank] | None = None,
    tolerance: float = TOLERANCE,
    max_rank: int | None = None,
    dividing: Dividing = Dividing.ALL,
) -> Aggregation:
    """The global adapter after one round, weight by weight as `aggregate` computes it.

    Parameters
    ----------
    updates
        The global update of every adaptable weight; of rank 0 before the first round.
    clients
        The clients that completed the round. Without any, the remainders alone are added.
    remainders
        What a rank cap cut off in the rounds before, and what momentum carries on.
    tolerance, max_rank
        As in `compress`.
    dividing
        Over whom a weight's mean is taken when not every client adapts it.

    Raises
    ------
    AdapterError, NonFiniteError
        A client cannot be used, see `check_client`; named by its place in ``clients``.
    """
    _check_clients(clients, updates)
    remainders = remainders or {}
    results = {
        name: aggregate(
            update,
            [client.contribution(name, update) for client in clients],
            remainder=remainders.get(name),
            tolerance=tolerance,
            max_rank=max_rank,
            dividing=dividing,
        )
        for name, update in updates.items()
    }
    return Aggregation(
        updates={name: result.update for name, result in results.items()},
        remainders={n: r.remainder for n, r in results.items() if r.remainder is not None},
        dropped_energy={name: result.dropped_energy for name, result in results.items()},
    )


def aggregate(
    update: LowRank,
    contributions: Sequence[Contribution],
    *,
    remainder: LowRank | None = None,
    tolerance: float = TOLERANCE,
    max_rank: int | None = None,
    dividing: Dividing = Dividing.ALL,
) -> Compression:
    """One weight's global update after a round, in canonical form.

    It is the formula at the head of this module, plus the ``remainder`` of earlier rounds, with
    ``p_i = n_i / Σ n`` over all contributions or over the holders alone. Give one contribution for
    every client that completed the round. Where nobody adapts the weight, the remainder alone is
    added, which may be momentum; where there is none either, the weight stays as it is.
    """
    holders = [contribution for contribution in contributions if contribution.is_holder]
    if not holders and remainder is None:
        return Compression(update=update)
    counted = contributions if dividing is Dividing.ALL else holders
    num_examples = sum(contribution.num_examples for contribution in counted)
    terms = [(update, _untouched_share(update, holders, num_examples))]
    if remainder is not None:
        terms.append((remainder, _constant(1.0, remainder)))
    for holder in holders:
        share = holder.num_examples / num_examples
        terms.append((holder.trained, _constant(share, holder.trained)))
        if not _is_head(holder.initial, update):
            terms.append((holder.initial, _constant(-share, holder.initial)))
    return compress(
        concatenate([term for term, _ in terms]),
        weights=torch.cat([weights for _, weights in terms]),
        tolerance=tolerance,
        max_rank=max_rank,
    )


def _check_clients(clients: Sequence[ClientUpdate], updates: Mapping[str, LowRank]) -> None:
    for index, client in enumerate(clients):
        try:
            check_client(client, updates)
        except (AdapterError, NonFiniteError) as error:
            raise type(error)(f"client {index}: {error}") from error


def _untouched_share(update: LowRank, holders: Sequence[Contribution], num_examples: int) -> Tensor:
    """Of each direction of the update, the share that the holders' ``−B⁰A⁰`` leaves.

    A client that continues starts from leading directions of the update itself. Taking those off
    here keeps the stack short and spares it the cancellation; in whole numbers, what all clients
    continue from is left with exactly nothing.
    """
    if not holders:
        return _constant(1.0, update)
    left = torch.full([update.rank], num_examples, dtype=torch.int64, device=update.b.device)
    for holder in holders:
        if _is_head(holder.initial, update):
            left[: holder.initial.rank] -= holder.num_examples
    return left.double() / num_examples


def _is_head(initial: LowRank, update: LowRank) -> bool:
    head = update.head(initial.rank)
    return torch.equal(initial.b, head.b) and torch.equal(initial.a, head.a)


def _constant(value: float, update: LowRank) -> Tensor:
    return torch.full([update.rank], value, dtype=torch.float64, device=update.b.device)
