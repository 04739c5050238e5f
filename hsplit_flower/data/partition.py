"""Which client holds which examples: IID, unequal by label as Dirichlet draws make it, or by label.

The drawing is left to the partitioners of `flwr_datasets`; this file gives them labels and takes
back positions, so that the examples themselves are never copied.
"""

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ..errors import ConfigError, DataError
from .example import Example, parse_meaning

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

MISSING_LABEL = "(none)"

Scheme = Literal["iid", "dirichlet", "natural"]


def labels_of(examples: Sequence[Example], attribute: str = "food") -> list[str]:
    """The value of one attribute for every example; `MISSING_LABEL` where it is not given.

    Raises
    ------
    DataError
        If no example has the attribute, or a meaning is not a list of attributes.
    """
    known = {meaning: dict(parse_meaning(meaning)) for meaning in {e.meaning for e in examples}}
    if known and not any(attribute in attributes for attributes in known.values()):
        present = sorted({name for attributes in known.values() for name in attributes})
        raise DataError(
            f"no example has the attribute {attribute!r} to partition by, and they have "
            f"{len(present)} others; name one of these",
            private_detail=str(present),
        )
    return [known[example.meaning].get(attribute, MISSING_LABEL) for example in examples]


def partition(
    labels: Sequence[str],
    num_clients: int,
    *,
    scheme: Scheme = "iid",
    alpha: float = 0.5,
    seed: int = 0,
    min_examples: int = 1,
) -> list[list[int]]:
    """The positions of each client's examples: every position once, no client empty.

    Each client's positions are in random order, so the first few are a fair sample of them.

    Parameters
    ----------
    labels
        One label for every example, as `labels_of` gives them.
    scheme
        ``"iid"`` deals the shuffled examples out equally, whatever their labels. ``"dirichlet"``
        draws, for every label, each client's share of its examples from
        ``Dirichlet(alpha, ..., alpha)``. ``"natural"`` gives all examples of a label to one client:
        the largest label first, each to whoever has the fewest examples.
    alpha
        How equal the shares are: near 0, a label goes to one client; large, all clients are alike.
    seed
        The same seed gives the same partition, on any machine.
    min_examples
        The fewest examples a client may have.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    DataError
        If there are too few examples, or the draws leave a client with too few; names the clients.
    """
    _check(len(labels), num_clients, scheme, alpha, seed, min_examples)
    codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]
    if scheme == "iid":
        return _partition_iid(codes, num_clients, seed)
    if scheme == "natural":
        return _partition_natural(codes, num_clients, seed, min_examples)
    return _partition_dirichlet(codes, num_clients, alpha, seed, min_examples)


def _check(
    num_examples: int, num_clients: int, scheme: str, alpha: float, seed: int, min_examples: int
) -> None:
    problems = []
    if scheme not in get_args(Scheme):
        problems.append(f"scheme must be one of {list(get_args(Scheme))}, got {scheme!r}")
    if num_clients < 1:
        problems.append(f"num_clients must be 1 or more, got {num_clients}")
    if not 0 < alpha < math.inf:
        problems.append(f"alpha must be a positive number, got {alpha}")
    if seed < 0:
        problems.append(f"seed must be zero or more, got {seed}")
    if min_examples < 1:
        problems.append(f"min_examples must be 1 or more, got {min_examples}")
    if problems:
        raise ConfigError("; ".join(problems))
    if num_examples < num_clients * min_examples:
        raise DataError(
            f"{num_examples} examples cannot give {num_clients} clients {min_examples} or more "
            f"each: clients {num_examples // min_examples} to {num_clients - 1} would lack theirs; "
            "use fewer clients or more examples"
        )


def _partition_iid(codes: np.ndarray, num_clients: int, seed: int) -> list[list[int]]:
    from flwr_datasets.partitioner import IidPartitioner

    order = np.random.default_rng(seed).permutation(len(codes))  # the partitioner does not shuffle
    return _positions(IidPartitioner(num_partitions=num_clients), order, codes[order])


def _partition_natural(
    codes: np.ndarray, num_clients: int, seed: int, min_examples: int
) -> list[list[int]]:
    sizes = np.bincount(codes)
    if len(sizes) < num_clients:
        raise DataError(
            f"{len(sizes)} different labels cannot give {num_clients} clients one or more each: "
            "use fewer clients, or divide by a column with more values"
        )
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(num_clients)]
    for code in np.argsort(-sizes, kind="stable"):
        min(parts, key=len).extend(np.flatnonzero(codes == code).tolist())
    if short := {at: len(part) for at, part in enumerate(parts) if len(part) < min_examples}:
        raise DataError(
            f"the labels leave clients with fewer than {min_examples} of {len(codes)} examples "
            f"(examples by client: {short}); use fewer clients"
        )
    return [rng.permutation(part).tolist() for part in parts]


def _partition_dirichlet(
    codes: np.ndarray, num_clients: int, alpha: float, seed: int, min_examples: int
) -> list[list[int]]:
    order = np.arange(len(codes))
    try:
        return _positions(
            _dirichlet_partitioner(num_clients, alpha, seed, min_examples), order, codes
        )
    except ValueError as error:
        first_draw = _dirichlet_partitioner(num_clients, alpha, seed, 0)
        sizes = [len(part) for part in _positions(first_draw, order, codes)]
        short = {client: size for client, size in enumerate(sizes) if size < min_examples}
        raise DataError(
            f"Dirichlet draws with alpha = {alpha} left clients with fewer than {min_examples} of "
            f"{len(codes)} examples each time (examples by client in the first: {short}); "
            "raise alpha, use fewer clients or another seed"
        ) from error


def _dirichlet_partitioner(
    num_clients: int, alpha: float, seed: int, min_examples: int
) -> "Partitioner":
    from flwr_datasets.partitioner import DirichletPartitioner

    return DirichletPartitioner(
        num_partitions=num_clients,
        partition_by="label",
        alpha=float(alpha),
        min_partition_size=min_examples,
        self_balancing=False,
        shuffle=True,
        seed=seed,
    )


def _positions(partitioner: "Partitioner", order: np.ndarray, codes: np.ndarray) -> list[list[int]]:
    """What the partitioner deals to each client, as positions in the list of examples."""
    from datasets import Dataset

    partitioner.dataset = Dataset.from_dict({"position": order, "label": codes})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one for every draw that is repeated
        return [
            partitioner.load_partition(client).with_format("numpy")["position"][:].tolist()
            for client in range(partitioner.num_partitions)
        ]
