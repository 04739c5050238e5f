"""Fewer directions of an adapter: which of them are kept, and what share of it that is.

A direction's energy is its singular value squared, its share of ``‖ΔW‖²``. In canonical form
(`compress`) it is ``‖b_j‖² ‖a_j‖²``, and the first directions of a weight are its largest.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import AdapterError
from .low_rank import LowRank, compress

ROUNDING = 2e-7
"""Of a squared norm, where terms of float32 nearly cancel."""


def canonical(updates: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """The same updates with the directions of each weight in order, the largest first."""
    return {name: compress(update) for name, update in updates.items()}


def truncated(updates: Mapping[str, LowRank], ranks: Mapping[str, int]) -> dict[str, LowRank]:
    """The leading directions of each weight, so many of them as ``ranks`` says."""
    return {name: update.head(ranks[name]) for name, update in updates.items()}


def ranks_of_energy(updates: Mapping[str, LowRank], share: float) -> dict[str, int]:
    """How many leading directions of each weight are kept, to keep a share of all energy.

    Over all weights together they are taken by energy per byte, ``σ_j² / (in + out)``, largest
    first, until what is kept is ``share`` of ``Σ_k ‖ΔW_k‖²`` or more.

    Parameters
    ----------
    updates
        In canonical form.
    share
        Above 0, at most 1; 1 keeps every direction that is not zero.

    Raises
    ------
    AdapterError
        If there can be no such share.
    """
    if not 0 < share <= 1:
        raise AdapterError(f"a share of the energy is above 0 and at most 1, got {share}")
    owner, energies, _ = _by_energy_per_byte(updates)
    # What is left out is added up from the smallest on: a small share must not be a difference.
    left_out = energies.flip(0).cumsum(0).flip(0)
    num_kept = int((left_out > (1 - share) * energies.sum()).sum())
    return _counted(updates, owner[:num_kept])


def ranks_within(updates: Mapping[str, LowRank], mean_rank: int) -> dict[str, int]:
    """How many leading directions of each weight are kept, to keep as much energy as fits.

    They are taken in the same order, up to the first that no longer fits.

    Parameters
    ----------
    updates
        In canonical form.
    mean_rank
        There is room for as many numbers as this rank on every weight has.
    """
    owner, _, numbers = _by_energy_per_byte(updates)
    room = mean_rank * sum(update.in_features + update.out_features for update in updates.values())
    return _counted(updates, owner[numbers.cumsum(0) <= room])


def energy_share(whole: Mapping[str, LowRank], kept: Mapping[str, LowRank]) -> float:
    """What share of an adapter another one is of it: ``1 - Σ‖W - K‖² / Σ‖W‖²``.

    Factors are float32: what is nearer to all of it than `ROUNDING` is all of it. 1 where both are
    nothing.

    Parameters
    ----------
    whole
        In canonical form.
    kept
        Of the same weights; one that is not there is nothing.
    """
    total = sum(float(_energies(update).sum()) for update in whole.values())
    missing = sum(
        float(_energies(update).sum())
        + kept[name].squared_norm()
        - 2 * update.inner_product(kept[name])
        if name in kept
        else float(_energies(update).sum())
        for name, update in whole.items()
    )
    return 1.0 if missing <= ROUNDING * total else 1 - min(missing / total, 1.0)


def _by_energy_per_byte(updates: Mapping[str, LowRank]) -> tuple[Tensor, Tensor, Tensor]:
    """Of every direction, the largest ``σ_j² / (in + out)`` first: whose it is, ``σ_j²``, size."""
    each = [_energies(update) for update in updates.values()]
    sizes = [update.in_features + update.out_features for update in updates.values()]
    counts = torch.tensor([len(energies) for energies in each], dtype=torch.int64)
    owner = torch.arange(len(each)).repeat_interleave(counts)
    energies = torch.cat([torch.zeros(0, dtype=torch.float64), *each])
    numbers = torch.tensor(sizes, dtype=torch.int64)[owner]
    order = (energies / numbers).argsort(descending=True, stable=True)
    return owner[order], energies[order], numbers[order]


def _counted(updates: Mapping[str, LowRank], owner: Tensor) -> dict[str, int]:
    counts = torch.bincount(owner, minlength=len(updates)).tolist()
    return dict(zip(updates, counts, strict=True))


def _energies(update: LowRank) -> Float[Tensor, " rank"]:
    """``σ_j²``."""
    b, a = update.b.double(), update.a.double()
    return b.square().sum(dim=0) * a.square().sum(dim=1)
