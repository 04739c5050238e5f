"""The global adapter between Flower's arrays and the state of a method."""

from collections.abc import Mapping

import torch
from flwr.app import ArrayRecord

from ..adapters import LowRank, PeftSettings, from_state_dict, to_state_dict, updates_of_peft
from ..adapters.peft_state import PREFIX, is_float16
from ..errors import ConfigError
from ..methods import MethodState
from ..splitting import Architecture
from ..types import Span


def starting_arrays(given: ArrayRecord | None, config: PeftSettings | None) -> ArrayRecord:
    """What a run starts from, under our keys: the arrays as they are, or made of PEFT's.

    Raises
    ------
    ConfigError
        If the scale of PEFT's arrays is not known, or that of others is given.
    AdapterError
        If what is given is not plain LoRA on an unchanged base.
    """
    if given is None:
        if config is not None:
            raise ConfigError("initial_config is given without initial_arrays: give both, or none")
        return ArrayRecord()
    prefixed = [key for key in given if key.startswith(PREFIX)]
    if len(prefixed) not in (0, len(given)):
        other = next(key for key in given if not key.startswith(PREFIX))
        raise ConfigError(
            f"initial_arrays have {prefixed[0]!r} under PEFT's prefix, and {other!r} without it: "
            "give either what get_peft_model_state_dict gives, or a global adapter's arrays"
        )
    if prefixed and config is None:
        raise ConfigError(
            f"initial_arrays are under PEFT's keys ({prefixed[0]!r}), and what their products are "
            "multiplied by (alpha / r) cannot be known from them: give the adapter's LoraConfig as "
            "initial_config as well, or ArrayRecord(to_state_dict(import_adapter(folder))) of the "
            "saved adapter"
        )
    if not prefixed and config is not None:
        raise ConfigError(
            "initial_config is the scale of arrays under PEFT's prefix, base_model.model.; these "
            "lack it, and the scale of a global adapter's arrays is folded in: leave the "
            "configuration out; or give PEFT's arrays with their prefix, or "
            "ArrayRecord(to_state_dict(updates_of_peft(state, config)))"
        )
    if config is None:
        return given
    return ArrayRecord(to_state_dict(updates_of_peft(given.to_torch_state_dict(), config)))


def adapter_from(arrays: ArrayRecord, architecture: Architecture) -> dict[str, LowRank]:
    """The updates by weight name that arrays under our keys are.

    Raises
    ------
    ConfigError
        If it has weights that the model lacks, of another shape, or with numbers that are none.
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
        if not (update.b.isfinite().all() and update.a.isfinite().all()):
            raise ConfigError(
                f"the initial adapter's {name!r} holds NaN or infinity: give one of finite numbers"
            )
    return given


def adapter_below(
    updates: Mapping[str, LowRank], span: Span, architecture: Architecture
) -> ArrayRecord:
    """The part of a client that holds the blocks in ``span``."""
    names = [weight.name for weight in architecture.weights_in(span)]
    return arrays_of({name: updates[name] for name in names})


def arrays_of_state(method: MethodState) -> ArrayRecord:
    """What everybody is given of what a method knows: its adapter, or all parameters."""
    if method.weights:
        return ArrayRecord(dict(method.weights))
    return arrays_of(method.updates)


def arrays_of(updates: Mapping[str, LowRank]) -> ArrayRecord:
    """Updates as Flower carries them, under our keys: in float16 what it holds without rounding."""
    return ArrayRecord(
        {
            key: tensor.to(torch.float16) if is_float16(tensor) else tensor
            for key, tensor in to_state_dict(updates).items()
        }
    )
