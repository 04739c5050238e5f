"""A round's clients compared: who is out of proportion, what of it is used, who is left out.

What is compared is what the method adds up: changes of the product ``B A`` where it sums exactly,
of ``B`` and of ``A`` where it takes means of factors. Both halves of a client count, since what a
session on the worker has trained comes from what its client sent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..adapters import LowRank, concatenate
from ..aggregation import Proportion, krum, limited, lower_median, proportions
from ..settings import Comparison
from ..types import Scaling, Start
from .exact_sum import as_client_update
from .method import Method
from .rules import AggregationRule
from .state import ClientResult, MethodState

Changes = Mapping[int, Mapping[str, LowRank]]
Inner = Callable[[LowRank, LowRank], float]
OF_A, OF_B = ", A", ", B"
_KEEPING = (AggregationRule.EXACT_SUM, AggregationRule.STACKED)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What of a round is used, by client, and what was found of each.

    ``results`` are of those that count; ``unselected`` are neither refused nor among them.
    """

    results: Mapping[int, ClientResult]
    proportions: Mapping[int, Proportion]
    unselected: frozenset[int] = frozenset()


def compared(
    method: Method,
    state: MethodState,
    results: Mapping[int, ClientResult],
    *,
    start: Start,
    options: Comparison,
    scaling: Scaling,
) -> Compared:
    """What of these results the method should take.

    Parameters
    ----------
    method, state
        Whose round it is, and what was known before.
    results
        By client, of those that finished it.
    start
        What they started from.
    options
        How far one client is believed.
    scaling
        Of the adapters in training.
    """
    changes = {client: _changes(method, state, result, start) for client, result in results.items()}
    inner = _inner_of_pairs if method.keeps_pair else LowRank.inner_product
    own = _without_shared(changes)
    norms = _factor_norms(own) if method.keeps_pair else _product_norms(own, results, scaling)
    found = proportions(
        norms,
        _block_norms(norms),
        clip_above=options.clip_above,
        refuse_above=options.refuse_above,
    )
    believed = _believed(results, options)
    taken = {
        client: _shortened(method, believed[client], changes[client], found[client].kept)
        for client in results
        if not found[client].is_refused
    }
    chosen = _chosen({client: changes[client] for client in taken}, inner, options)
    return Compared(
        results={client: taken[client] for client in chosen},
        proportions=found,
        unselected=frozenset(taken.keys() - set(chosen)),
    )


def block_of(name: str) -> str:
    """``model.layers.3`` of ``model.layers.3.self_attn.q_proj``; all of a name without a number."""
    parts = name.split(".")
    number = next((at for at, part in enumerate(parts) if part.isdecimal()), len(parts))
    return ".".join(parts[: number + 1])


def squared_distances(
    changes: Sequence[Mapping[str, LowRank]], inner: Inner = LowRank.inner_product
) -> Float[Tensor, "clients clients"]:
    """``Σ_w ‖Δ_i − Δ_j‖²`` over all weights, from inner products; a missing weight's is zero."""
    count = len(changes)
    gram = torch.zeros(count, count, dtype=torch.float64)
    for i, own in enumerate(changes):
        for j, other in enumerate(changes[: i + 1]):
            shared = own.keys() & other.keys()
            gram[i, j] = gram[j, i] = sum(inner(own[name], other[name]) for name in shared)
    norms = gram.diagonal()
    return (norms[:, None] + norms[None, :] - 2 * gram).clamp(min=0.0)


def _changes(
    method: Method, state: MethodState, result: ClientResult, start: Start
) -> dict[str, LowRank]:
    """What a client has changed, by weight; of pairs of factors each factor's own change."""
    if not method.keeps_pair:
        return as_client_update(result, state, start).changes()
    return {
        name: _pair_change(update, state.updates[name].head(update.rank))
        for name, update in result.updates.items()
        if update.rank
    }


def _pair_change(trained: LowRank, before: LowRank) -> LowRank:
    """``B − B⁰`` and ``A − A⁰``; directions that were not there before were zero."""
    b, a = trained.b.clone(), trained.a.clone()
    b[:, : before.rank] -= before.b
    a[: before.rank] -= before.a
    return LowRank(b=b, a=a)


def _inner_of_pairs(one: LowRank, other: LowRank) -> float:
    """``⟨B, B'⟩ + ⟨A, A'⟩`` of factors taken as they are, the smaller ones padded with zeros."""
    rank = min(one.rank, other.rank)
    left, right = one.head(rank), other.head(rank)
    of_b = (left.b.double() * right.b.double()).sum()
    return float(of_b + (left.a.double() * right.a.double()).sum())


def _without_shared(changes: Changes) -> Changes:
    """Without what is the same for all: a worker's one adapter is nobody's in particular."""
    first = next(iter(changes.values()), {})
    shared = {
        name
        for name, change in first.items()
        if len(changes) > 1
        and all(
            name in own
            and torch.equal(own[name].b, change.b)
            and torch.equal(own[name].a, change.a)
            for own in changes.values()
        )
    }
    return {
        client: {name: change for name, change in own.items() if name not in shared}
        for client, own in changes.items()
    }


def _product_norms(
    changes: Changes, results: Mapping[int, ClientResult], scaling: Scaling
) -> dict[int, dict[str, float]]:
    """``‖Δ‖`` by client and weight, over what the client's rank alone makes of it.

    AdamW's steps are as long whatever the rank ``r``, so ``‖B A‖`` grows with ``√r``; and it is
    multiplied by the scale of that rank. Honest clients differ by little else.
    """
    found: dict[int, dict[str, float]] = {}
    for client, own in changes.items():
        ranks = {name: update.rank for name, update in results[client].updates.items()}
        found[client] = {
            name: change.squared_norm() ** 0.5 / (scaling.of(ranks[name]) * ranks[name] ** 0.5)
            for name, change in own.items()
        }
    return found


def _factor_norms(changes: Changes) -> dict[int, dict[str, float]]:
    """``‖B − B⁰‖`` and ``‖A − A⁰‖`` by client and weight."""
    found: dict[int, dict[str, float]] = {}
    for client, own in changes.items():
        found[client] = {name + OF_B: _norm(change.b) for name, change in own.items()}
        found[client] |= {name + OF_A: _norm(change.a) for name, change in own.items()}
    return found


def _norm(factor: Tensor) -> float:
    return float(torch.linalg.vector_norm(factor, dtype=torch.float64))


def _block_norms(norms: Mapping[int, Mapping[str, float]]) -> dict[int, dict[str, float]]:
    """The root mean square over the weights of each block that a client trains."""
    found: dict[int, dict[str, float]] = {}
    for client, own in norms.items():
        squares: dict[str, list[float]] = {}
        for name, norm in own.items():
            factor = name[-len(OF_B) :] if name.endswith((OF_A, OF_B)) else ""
            squares.setdefault(block_of(name) + factor, []).append(norm**2)
        found[client] = {block: (sum(each) / len(each)) ** 0.5 for block, each in squares.items()}
    return found


def _believed(results: Mapping[int, ClientResult], options: Comparison) -> dict[int, ClientResult]:
    """The same with claims that are not out of all proportion: examples, and importance."""
    counts = {client: result.num_examples for client, result in results.items()}
    if options.examples_above and counts:
        most = max(1, int(options.examples_above * lower_median(map(float, counts.values()))))
        counts = {client: min(count, most) for client, count in counts.items()}
    scores = limited(
        {client: result.importance for client, result in results.items()}, options.refuse_above
    )
    return {
        client: replace(result, num_examples=counts[client], importance=scores[client])
        for client, result in results.items()
    }


def _shortened(
    method: Method,
    result: ClientResult,
    changes: Mapping[str, LowRank],
    kept: Mapping[str, float],
) -> ClientResult:
    """The same with as much of its change as is kept of every weight."""
    if not kept:
        return result
    if method.keeps_pair:
        return replace(result, updates={**result.updates, **_moved_back(result, changes, kept)})
    shares = {name: kept.get(name, 1.0) for name in changes}
    if method.aggregation in _KEEPING:
        return replace(result, kept=shares)
    shorter = {}
    for name in kept:
        trained = result.updates[name]
        # A change is what was trained, and behind it what it started from, taken off.
        taken_off = changes[name].tail(trained.rank)
        shorter[name] = concatenate(
            [trained.scale(shares[name]), taken_off.scale(shares[name] - 1.0)]
        )
    return replace(result, updates={**result.updates, **shorter})


def _moved_back(
    result: ClientResult, changes: Mapping[str, LowRank], kept: Mapping[str, float]
) -> dict[str, LowRank]:
    """Both factors of every pair, each as far from its start as is kept of it."""
    moved = {}
    for name, change in changes.items():
        pair = result.updates[name]
        of_b, of_a = (1.0 - kept.get(name + factor, 1.0) for factor in (OF_B, OF_A))
        moved[name] = LowRank(b=pair.b - of_b * change.b, a=pair.a - of_a * change.a)
    return moved


def _chosen(changes: Changes, inner: Inner, options: Comparison) -> list[int]:
    """Whose changes are used."""
    clients = list(changes)
    if options.selection == "all" or len(clients) < 2:
        return clients
    num_malicious = options.num_malicious_nodes
    num_selected = 1 if options.selection == "krum" else len(clients) - num_malicious
    distances = squared_distances([changes[client] for client in clients], inner)
    return [clients[at] for at in krum(distances, num_malicious, num_selected=num_selected)]
