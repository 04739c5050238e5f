"""Whether a worker's half is the other half of a model that is written with on this device."""

from collections.abc import Mapping

from ..adapters import LowRank
from ..errors import UnsupportedModelError
from ..splitting import Architecture, Checkpoint, floating_dtype
from ..splitting.base_digest import difference
from ..splitting.base_reading import digest_of
from ..splitting.quantisation import told_numbers
from ..types import WorkerDescription
from ..wire.base_text import base_from_text
from ..wire.fingerprint import check_same_adapter, fingerprint_of_updates


def check_described(
    described: WorkerDescription,
    architecture: Architecture,
    updates: Mapping[str, LowRank],
    address: str,
) -> None:
    """Refuse, before anything is loaded, a worker with another number of blocks or adapter.

    Parameters
    ----------
    described
        What the worker says of itself.
    architecture, updates
        Of the model here, and the adapter of both sides.
    address
        Of the worker.

    Raises
    ------
    UnsupportedModelError
        If its model has more or fewer blocks.
    AdapterError
        If it has another adapter, or none.
    """
    if described.num_blocks != architecture.num_blocks:
        raise UnsupportedModelError(
            f"the worker at {address} has {described.model!r} of {described.num_blocks} blocks, "
            f"and the model here has {architecture.num_blocks}: the same base is wanted on both "
            "sides"
        )
    own = fingerprint_of_updates(updates)
    check_same_adapter(described.adapter, own, worker=f"the worker at {address}")


def check_base(described: WorkerDescription, checkpoint: Checkpoint, address: str) -> None:
    """Refuse a worker whose base has other values, as far as both have read the same tensors.

    They are compared as the worker computes with them, whatever type is computed in here.

    Parameters
    ----------
    described, address
        As in `check_described`.
    checkpoint
        The base here, of which the half that is wanted has been loaded: what came from the hub is
        on the disk by then.

    Raises
    ------
    UnsupportedModelError
        Naming what is other in it.
    """
    computes_in, quantised = told_numbers(described.dtype)
    own = digest_of(checkpoint, floating_dtype(computes_in), is_quantised=bool(quantised))
    if found := difference(own, base_from_text(described.base)):
        raise UnsupportedModelError(
            f"{checkpoint.source!r} here is another base than {described.model!r} of the worker at "
            f"{address}: {found}; give both sides one checkpoint, with --model and --revision"
        )
