"""What each method makes of its clients' factors, in float64 and as its formulas read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hsplit_flower.adapters import LowRank


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """``n_k``, ``B_k`` and ``A_k`` of one client, with the scale in ``B``."""

    num_examples: int
    b: Tensor
    a: Tensor

    @classmethod
    def of(cls, num_examples: int, update: LowRank) -> "Trained":
        return cls(num_examples=num_examples, b=update.b.double(), a=update.a.double())

    @property
    def product(self) -> Tensor:
        return self.b @ self.a


def shares(clients: Sequence[Trained]) -> list[float]:
    """``p_k = n_k / Σ n``."""
    total = sum(client.num_examples for client in clients)
    return [client.num_examples / total for client in clients]


def fed_lora(clients: Sequence[Trained]) -> tuple[Tensor, Tensor]:
    """``B = Σ p_k B_k`` and ``A = Σ p_k A_k``."""
    b, a = torch.zeros_like(clients[0].b), torch.zeros_like(clients[0].a)
    for p, client in zip(shares(clients), clients, strict=True):
        b += p * client.b
        a += p * client.a
    return b, a


def _padded_sum(clients: Sequence[Trained], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    rank = max(client.a.shape[0] for client in clients)
    b = torch.zeros(clients[0].b.shape[0], rank, dtype=torch.float64)
    a = torch.zeros(rank, clients[0].a.shape[1], dtype=torch.float64)
    for weight, client in zip(weights, clients, strict=True):
        for direction in range(client.a.shape[0]):
            b[:, direction] += weight * client.b[:, direction]
            a[direction] += weight * client.a[direction]
    return b, a


def padded(clients: Sequence[Trained]) -> tuple[Tensor, Tensor]:
    """``B = Σ p_k pad(B_k)`` and ``A`` alike."""
    return _padded_sum(clients, shares(clients))


def het_lora(clients: Sequence[Trained]) -> tuple[Tensor, Tensor]:
    """``B = Σ (S_k / Z) pad(B_k)`` and ``A`` alike, ``S_k = ‖B_k A_k‖_F``, ``Z = Σ S_k``."""
    norms = [torch.linalg.matrix_norm(client.product).item() for client in clients]
    total = sum(norms)
    even = 1 / len(norms)
    return _padded_sum(clients, [norm / total if total else even for norm in norms])


def weighted_products(clients: Sequence[Trained]) -> Tensor:
    """``Σ p_k s_k B_k A_k``: what FLoRA stacks, and what FlexLoRA decomposes."""
    total = torch.zeros_like(clients[0].product)
    for p, client in zip(shares(clients), clients, strict=True):
        total += p * client.product
    return total


def best_part(matrix: Tensor, rank: int) -> Tensor:
    """The nearest matrix of this rank (Eckart and Young)."""
    u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ vh[:rank]


def tail_norms(pairs: Sequence[tuple[Tensor, Tensor]], start: Sequence[int]) -> float:
    """``Σ ‖B[:, t:]‖_F ‖A[t:, :]‖_F`` over weights."""
    total = 0.0
    for (b, a), t in zip(pairs, start, strict=True):
        b_squares = sum(float(value) ** 2 for value in b[:, t:].flatten())
        a_squares = sum(float(value) ** 2 for value in a[t:, :].flatten())
        total += (b_squares * a_squares) ** 0.5
    return total
