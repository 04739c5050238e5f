"""Low-rank products of many sessions in one pass over their rows, one product for all of them.

The rows of a pass lie session by session. Sessions with equally many rows are neighbours, and their
factors are stacked, padded with zeros to the largest rank, so that two batched products serve them
all:

    U = X Aᵀ    [sessions, tokens, rank]        Y ← Y + U B    [sessions, tokens, out]

Nothing ever adds rows of different sessions up, neither here nor in the gradients: what is not
finite in one of them stays there.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import AdapterError
from .dropout import Dropout, dropped
from .low_rank import LowRank

Term = tuple[Tensor, Tensor, float]


class NotRowwiseError(AdapterError):
    """A layer's input is not one row a token of the batch: such a model's sessions run alone."""


@dataclass(frozen=True, kw_only=True)
class Active:
    """What one session adds to each weight.

    ``terms`` are low-rank terms ``(b, a, scale)``. ``shares`` says how much it adds of each of the
    leading directions of the update that all sessions share (`AdapterBank.share`). ``dropout`` is
    what the terms do not see of their layers' inputs.
    """

    terms: Mapping[str, Sequence[Term]]
    shares: Mapping[str, Float[Tensor, " direction"]] = field(default_factory=dict)
    dropout: Dropout | None = None


@dataclass(frozen=True, kw_only=True)
class BatchMember:
    """A session in a pass, how many rows of the batch are its own, and how long it sent them."""

    active: Active
    num_rows: int
    num_positions: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """Where one session's factors are in a stack: ``a[session, start:stop]``, and ``b`` alike."""

    b: Tensor
    a: Tensor
    scale: float
    session: int
    start: int

    def within(self, stacked: Tensor) -> Tensor:
        return stacked[self.session, self.start : self.start + self.a.shape[0]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stack:
    """Factors of neighbours with equally many rows; ``a`` is None where none of them has any."""

    num_sessions: int
    num_tokens: int
    places: Sequence[_Place] = ()
    a: Tensor | None = None
    b: Tensor | None = None
    scale: Tensor | float = 1.0

    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """``Y + scale · X Aᵀ B`` for the tokens of these sessions."""
        if self.a is None or self.b is None:
            return output
        shape = (self.num_sessions, self.num_tokens, -1)
        product = inputs.to(self.a.dtype).view(shape) @ self.a.mT  # [sessions, tokens, rank]
        alpha = 1.0
        if isinstance(self.scale, Tensor):
            product = product * self.scale
        else:
            alpha = self.scale
        base = output.view(shape)
        if base.dtype == product.dtype:
            return torch.baddbmm(base, product, self.b, alpha=alpha).view_as(output)
        return (base + (alpha * (product @ self.b)).to(base.dtype)).view_as(output)


class BatchedAdapters:
    """Sessions whose rows run together: in a layer, all of them or the first few.

    Parameters
    ----------
    members
        In the order of their rows. Those that join later, because their cut is higher, come last.
        All have dropout, of one probability, or none has.
    num_positions
        Length of the batch's rows.
    """

    def __init__(self, members: Sequence[BatchMember], num_positions: int) -> None:
        self._members = members
        self._num_positions = num_positions
        tokens = [member.num_rows * num_positions for member in members]
        self._count_by_tokens = {
            total: count for count, total in enumerate(itertools.accumulate(tokens), start=1)
        }
        self._stacks: dict[str, list[_Stack]] = {}

    def add(
        self,
        name: str,
        shared: LowRank | None,
        inputs: Float[Tensor, "*batch in_features"],
        output: Float[Tensor, "*batch out_features"],
    ) -> Tensor:
        """A layer's output with the terms of the sessions that have joined by then.

        Raises
        ------
        NotRowwiseError
            If the layer's input is not the tokens of the first few sessions.
        """
        x, y = inputs.flatten(0, -2), output.flatten(0, -2)  # [tokens, features]
        count = self._count_by_tokens.get(len(x))
        if count is None:
            raise NotRowwiseError(
                f"{name!r} was given {list(inputs.shape)}, not the rows of the first few sessions"
            )
        if name not in self._stacks:
            self._stacks[name] = list(self._stacked(name, count))
        if shared is not None:
            y = self._add_shared(name, shared, count, x, y)
        x = self._seen(name, count, x)
        stacks = self._stacks[name]
        if len(stacks) == 1:
            return stacks[0].add(x, y).view_as(output)
        sizes = [stack.num_sessions * stack.num_tokens for stack in stacks]
        parts = zip(stacks, x.split(sizes), y.split(sizes), strict=True)
        return torch.cat([stack.add(a, b) for stack, a, b in parts]).view_as(output)

    def hand_out_gradients(self) -> None:
        """Give each session its part of the stacks' gradients, added to what it has already.

        All sessions, or none if it fails: what needs memory comes first.
        """
        fresh: list[tuple[Tensor, Tensor]] = []
        held: list[Tensor] = []
        added: list[Tensor] = []
        for stack in itertools.chain.from_iterable(self._stacks.values()):
            if stack.a is None or stack.b is None or stack.a.grad is None or stack.b.grad is None:
                continue
            for place in stack.places:
                parts = (place.within(stack.a.grad), place.within(stack.b.grad).T)
                for factor, part in zip((place.a, place.b), parts, strict=True):
                    if not factor.requires_grad:
                        continue
                    if factor.grad is None:
                        fresh.append((factor, _laid_out_as(factor, part)))
                    else:
                        held.append(factor.grad)
                        added.append(part)
        if held:
            torch._foreach_add_(held, added)
        for factor, gradient in fresh:
            factor.grad = gradient

    def _stacked(self, name: str, count: int) -> Iterator[_Stack]:
        members = self._members[:count]
        for num_rows, run in itertools.groupby(members, key=lambda member: member.num_rows):
            yield _stack(name, list(run), num_rows * self._num_positions)

    def _seen(self, name: str, count: int, x: Tensor) -> Tensor:
        """The input as the sessions' terms see it: each without what its own masks take."""
        members = self._members[:count]
        if members[0].active.dropout is None:
            return x
        rows = x.view(-1, self._num_positions, x.shape[-1])
        kept = torch.ones(rows.shape, dtype=torch.bool, device=x.device)
        parts = kept.split([member.num_rows for member in members])
        for member, part in zip(members, parts, strict=True):
            dropout = member.active.dropout
            assert dropout is not None
            own = part[:, : member.num_positions]
            own.copy_(dropout.kept(name, tuple(own.shape), x.device))
        return dropped(rows.float(), kept, members[0].active.dropout.probability).view_as(x)

    def _add_shared(self, name: str, shared: LowRank, count: int, x: Tensor, y: Tensor) -> Tensor:
        """``Y + (X Aᵀ ∘ shares) Bᵀ``, each token with its own session's shares."""
        members = self._members[:count]
        shares = [member.active.shares.get(name) for member in members]
        width = max((len(share) for share in shares if share is not None), default=0)
        if not width:
            return y
        rows = torch.zeros(count, width, device=shared.a.device)
        for row, share in zip(rows, shares, strict=True):
            if share is not None:
                row[: len(share)] = share
        tokens = torch.tensor([member.num_rows * self._num_positions for member in members])
        each = rows.repeat_interleave(tokens.to(rows.device), dim=0, output_size=len(x))
        return add_shared(shared, each, x, y)


def _laid_out_as(factor: Tensor, part: Tensor) -> Tensor:
    """The same numbers in the factor's order in memory, by which a fused optimizer reads them."""
    if part.stride() == factor.stride():
        return part
    return torch.empty_like(factor).copy_(part)


def add_shared(
    shared: LowRank,
    shares: Float[Tensor, "*per_token direction"],
    x: Float[Tensor, "*tokens in_features"],
    y: Float[Tensor, "*tokens out_features"],
) -> Tensor:
    """``Y + (X Aᵀ ∘ shares) Bᵀ`` over the leading directions of the update that all share."""
    width = shares.shape[-1]
    product = (x.to(shared.a.dtype) @ shared.a[:width].T) * shares
    return y + (product @ shared.b[:, :width].T).to(y.dtype)


def _stack(name: str, members: Sequence[BatchMember], num_tokens: int) -> _Stack:
    """The factors of these members, copied side by side; a leaf of the graph."""
    places = []
    for session, member in enumerate(members):
        start = 0
        for b, a, scale in member.active.terms.get(name, ()):
            places.append(_Place(b=b, a=a, scale=scale, session=session, start=start))
            start += a.shape[0]
    if not places:
        return _Stack(num_sessions=len(members), num_tokens=num_tokens)
    first = places[0]
    rank = max(place.start + place.a.shape[0] for place in places)
    a = first.a.new_zeros(len(members), rank, first.a.shape[1])
    b = first.b.new_zeros(len(members), rank, first.b.shape[0])
    with torch.no_grad():
        torch._foreach_copy_(
            [place.within(stacked) for stacked in (a, b) for place in places],
            [*(place.a for place in places), *(place.b.T for place in places)],
        )
    if torch.is_grad_enabled() and any(place.a.requires_grad for place in places):
        a.requires_grad_()
        b.requires_grad_()
    return _Stack(
        num_sessions=len(members),
        num_tokens=num_tokens,
        places=places,
        a=a,
        b=b,
        scale=_scale(places, a),
    )


def _scale(places: Sequence[_Place], stacked: Tensor) -> Tensor | float:
    """One number where all agree, else one for each session and direction."""
    first = places[0].scale
    if all(place.scale == first for place in places):
        return first
    scale = stacked.new_ones(len(stacked), stacked.shape[1])
    for place in places:
        place.within(scale).fill_(place.scale)
    return scale[:, None]
