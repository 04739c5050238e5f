"""Federated averaging of whole weights: the method without adapters that we compare with.

    W ← Σ_i p_i W_i,      p_i = n_i / Σ n

FedAvg (McMahan et al., arXiv 1602.05629).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import AdapterError, NonFiniteError
from .contribution import LARGEST_NORM, shares


def mean_of_weights(
    clients: Sequence[Mapping[str, Tensor]], num_examples: Sequence[int]
) -> dict[str, Tensor]:
    """``Σ_i p_i W_i`` by name, taken in float64 and rounded once.

    Parameters
    ----------
    clients
        Each one's weights, all of the same names.
    num_examples
        ``n_i``.

    Raises
    ------
    AdapterError, NonFiniteError
        The clients' weights are not of one model, or some cannot be used, see `check_weights`.
    """
    if not clients:
        raise AdapterError("got no weights to average; give those of at least one client")
    parts = shares(num_examples)
    shapes = {name: weight.shape for name, weight in clients[0].items()}
    for client in clients:
        check_weights(client, shapes)
    means = {}
    for name in clients[0]:
        total = torch.zeros_like(clients[0][name], dtype=torch.float64)
        for share, client in zip(parts, clients, strict=True):
            total.add_(client[name].double(), alpha=share)
        means[name] = total.float()
    return means


def check_weights(weights: Mapping[str, Tensor], wanted: Mapping[str, Sequence[int]]) -> None:
    """Refuse a client whose weights do not fit the base, or are no numbers to average.

    Parameters
    ----------
    weights
        What it has sent.
    wanted
        The shape of every parameter of the base, by name.

    Raises
    ------
    AdapterError
        A parameter is missing, or unknown, or of another shape, or larger than `LARGEST_NORM`.
    NonFiniteError
        Some hold NaN or infinity.
    """
    if different := sorted(weights.keys() ^ wanted.keys()):
        raise AdapterError(
            f"trained {len(weights)} parameters, the base has {len(wanted)}; {different[0]!r} is "
            "on one side alone: check which model the client has loaded"
        )
    for name, weight in weights.items():
        if list(weight.shape) != list(wanted[name]):
            raise AdapterError(
                f"parameter {name!r} has shape {list(weight.shape)}, wanted {list(wanted[name])}; "
                "check which model the client has loaded"
            )
        norm = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
        if not norm < float("inf"):
            raise NonFiniteError(f"{name!r} holds NaN or infinity; leave the client out")
        if norm > LARGEST_NORM:
            raise AdapterError(
                f"{name!r} has a norm of {norm:.1e}, at most {LARGEST_NORM:.0e} is wanted: "
                "training has diverged; leave the client out"
            )
