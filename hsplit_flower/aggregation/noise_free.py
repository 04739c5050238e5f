"""Noise-free adapter aggregation (NAA): the exact weighted mean of what the clients trained.

Averaging the factors of LoRA adapters adds cross terms, ``mean(B) mean(A) ≠ mean(B A)``, and needs
equal ranks. Concatenating them does neither (HSplitLoRA, arXiv 2505.02795; the idea is FLoRA's,
arXiv 2409.05976):

    ΔW_g + Σ_i p_i (B_i A_i − B⁰_i A⁰_i) = [B_g, p_1 B_1, −p_1 B⁰_1, …] · [A_g; A_1; A⁰_1; …]

Of a client whose change was shortened, ``p_i`` is multiplied by the share of it that is `kept`.
`aggregate` compresses the sum without loss, at whatever rank it then has. `change` is what is added
alone, for a sum that is kept elsewhere. This module knows neither messages nor rounds.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..adapters.low_rank import TOLERANCE, LowRank, compress, concatenate
from ..errors import AdapterError, NonFiniteError
from ..types import Dividing
from .contribution import ClientUpdate, Contribution, check_client


def aggregate_adapters(
    updates: Mapping[str, LowRank],
    clients: Sequence[ClientUpdate],
    *,
    carried: Mapping[str, LowRank] | None = None,
    tolerance: float = TOLERANCE,
    dividing: Dividing = Dividing.ALL,
) -> dict[str, LowRank]:
    """The whole global adapter after one round, weight by weight as `aggregate` computes it.

    Parameters
    ----------
    updates
        The global update of every adaptable weight; of rank 0 before the first round.
    clients
        The clients that completed the round.
    carried
        What is added besides: momentum.
    tolerance
        As in `compress`.
    dividing
        Over whom a weight's mean is taken when not every client adapts it.

    Raises
    ------
    AdapterError, NonFiniteError
        A client cannot be used, see `check_client`; named by its place in ``clients``.
    """
    check_clients(clients, updates)
    carried = carried or {}
    return {
        name: aggregate(
            update,
            [client.contribution(name, update) for client in clients],
            carried=carried.get(name),
            tolerance=tolerance,
            dividing=dividing,
        )
        for name, update in updates.items()
    }


def aggregate(
    update: LowRank,
    contributions: Sequence[Contribution],
    *,
    carried: LowRank | None = None,
    tolerance: float = TOLERANCE,
    dividing: Dividing = Dividing.ALL,
) -> LowRank:
    """One weight's whole global update after a round, in canonical form.

    It is the formula at the head of this module, with what is ``carried`` added, and
    ``p_i = n_i / Σ n`` over all contributions or over the holders alone. Give one contribution for
    every client that completed the round. Where nobody adapts the weight and nothing is carried,
    it stays as it is.
    """
    holders = [contribution for contribution in contributions if contribution.is_holder]
    if not holders and carried is None:
        return update
    num_examples = _num_examples(contributions, holders, dividing)
    terms = [(update, _untouched_share(update, holders, num_examples))]
    if carried is not None:
        terms.append((carried, _constant(1.0, carried)))
    terms.extend(_own_terms(update, holders, num_examples))
    return compress(
        concatenate([term for term, _ in terms]),
        weights=torch.cat([weights for _, weights in terms]),
        tolerance=tolerance,
    )


def change(
    update: LowRank,
    contributions: Sequence[Contribution],
    *,
    dividing: Dividing = Dividing.ALL,
) -> list[LowRank]:
    """``Σ_i p_i (B_i A_i − B⁰_i A⁰_i)`` of one weight, as terms to be added up.

    Parameters
    ----------
    update
        What the clients started from; it is no part of the change.
    contributions, dividing
        As in `aggregate`.
    """
    holders = [contribution for contribution in contributions if contribution.is_holder]
    num_examples = _num_examples(contributions, holders, dividing)
    taken_off = _untouched_share(update, holders, num_examples) - 1.0
    terms = [(update, taken_off), *_own_terms(update, holders, num_examples)]
    return [term.weighted(weights) for term, weights in terms if bool(weights.any())]


def _own_terms(
    update: LowRank, holders: Sequence[Contribution], num_examples: int
) -> Iterator[tuple[LowRank, Tensor]]:
    """What each holder trained, and what it started from where that is no part of the update."""
    for holder in holders:
        share = holder.kept * holder.num_examples / num_examples
        yield holder.trained, _constant(share, holder.trained)
        if not _is_head(holder.initial, update):
            yield holder.initial, _constant(-share, holder.initial)


def _num_examples(
    contributions: Sequence[Contribution], holders: Sequence[Contribution], dividing: Dividing
) -> int:
    counted = contributions if dividing is Dividing.ALL else holders
    return sum(contribution.num_examples for contribution in counted)


def check_clients(clients: Sequence[ClientUpdate], updates: Mapping[str, LowRank]) -> None:
    """`check_client` of every one, who is named by its place."""
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
    # Float64 holds whole numbers of examples exactly, far beyond what any client may claim.
    left = _constant(float(num_examples), update)
    for holder in holders:
        if _is_head(holder.initial, update):
            left[: holder.initial.rank] -= holder.kept * holder.num_examples
    return left / num_examples


def _is_head(initial: LowRank, update: LowRank) -> bool:
    head = update.head(initial.rank)
    return torch.equal(initial.b, head.b) and torch.equal(initial.a, head.a)


def _constant(value: float, update: LowRank) -> Tensor:
    return torch.full([update.rank], value, dtype=torch.float64, device=update.b.device)
