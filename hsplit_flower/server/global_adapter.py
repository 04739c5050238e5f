"""The global adapter between Flower's arrays and the state of a method."""

from collections.abc import Mapping

from flwr.app import ArrayRecord

from ..adapters import LowRank, from_state_dict, to_state_dict
from ..errors import ConfigError
from ..splitting import Architecture
from ..types import Span


def adapter_from(arrays: ArrayRecord, architecture: Architecture) -> dict[str, LowRank]:
    """The updates by weight name that arrays under PEFT's keys are.

    Raises
    ------
    ConfigError
        If it has weights that the model lacks, or of another shape.
    """
    given = from_state_dict(arrays.to_torch_state_dict())
    known = {weight.name: weight for weight in architecture.weights}
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"the initial adapter has weights that the model lacks: {unknown[:3]}")
    for name, update in given.items():
        got = [update.out_features, update.in_features]
        wanted = [known[name].out_features, known[name].in_features]
        if got != wanted:
            raise ConfigError(
                f"the initial adapter's {name!r} is for a weight of {got}, the model's is {wanted}"
            )
    return given


def adapter_below(
    updates: Mapping[str, LowRank], span: Span, architecture: Architecture
) -> ArrayRecord:
    """The part of a client that holds the blocks in ``span``."""
    names = [weight.name for weight in architecture.weights_in(span)]
    return ArrayRecord(to_state_dict({name: updates[name] for name in names}))
