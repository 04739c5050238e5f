"""Factors under PEFT's keys: our own, which carry everything, and PEFT's, which need its scale.

Ours are ``NAME.lora_A.weight`` and ``NAME.lora_B.weight``, and their product is the update. PEFT's
begin with ``base_model.model.``, and their product is multiplied by what the configuration says.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from ..errors import AdapterError
from .low_rank import LowRank
from .peft_config import PeftSettings, PlainLora

PREFIX = "base_model.model."
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_FOREIGN = {
    "lora_magnitude_vector": "it is DoRA's",
    "lora_embedding_": "it is of an embedding, and linear layers are adapted here",
    ".bias": "it is a bias that was trained beside the factors",
    ".lora_A.": "it has an adapter's name in it: give what get_peft_model_state_dict(model) gives",
    ".lora_B.": "it has an adapter's name in it: give what get_peft_model_state_dict(model) gives",
    "embed": "it is of an embedding, saved whole because its size was changed or it was trained",
}


def to_state_dict(updates: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """Factors under our keys, ``NAME.lora_A.weight`` and ``NAME.lora_B.weight``."""
    state = {}
    for name, update in updates.items():
        if update.rank:
            state[f"{name}.lora_A.weight"] = update.a.contiguous()
            state[f"{name}.lora_B.weight"] = update.b.contiguous()
    return state


def from_state_dict(state: Mapping[str, Tensor]) -> dict[str, LowRank]:
    """The inverse of :func:`to_state_dict`.

    Raises
    ------
    AdapterError
        If a key is not a LoRA factor's, or its other factor is missing; or if the keys are PEFT's.
    """
    for key in state:
        if key.startswith(PREFIX):
            raise AdapterError(
                f"tensor {key!r} is under PEFT's own key, and its scale is not known without the "
                "configuration: updates_of_peft(state, config) reads both, import_adapter(folder) "
                "a saved adapter"
            )
    return {name: LowRank(b=b.float(), a=a.float()) for name, (b, a) in _pairs(state).items()}


def updates_of_peft(
    state: Mapping[str, Tensor],
    config: PeftSettings,
    *,
    what: str = "the PEFT configuration",
) -> dict[str, LowRank]:
    """The exact updates that PEFT makes of its tensors, scale folded in; on the host.

    Parameters
    ----------
    state
        What ``get_peft_model_state_dict(model)`` gives, with PEFT's prefix or without.
    config
        ``model.peft_config["default"]``, or a mapping with the keys of an ``adapter_config.json``.
    what
        How errors call the configuration.

    Raises
    ------
    AdapterError
        Naming the key or the tensor, if they are more or less than plain LoRA on an unchanged
        base, if the tensors do not have the ranks of the configuration, or are not finite.
    """
    lora = PlainLora.of(config, what)
    updates = {}
    for name, (b, a) in _pairs(_without_prefix(state)).items():
        _check_factors(name, b, a, lora.rank_of(name), what)
        scale = lora.scale_of(name)
        b, a = b.detach().to("cpu", torch.float32) * scale, a.detach().to("cpu", torch.float32)
        if not (b.isfinite().all() and a.isfinite().all()):
            raise AdapterError(
                f"weight {name!r} has factors with NaN or infinity, multiplied by {scale:g}: "
                "an adapter of finite numbers is wanted"
            )
        # One rank for all may be padding, as it is in what export_adapter writes.
        is_used = b.any(dim=0) | a.any(dim=1)
        updates[name] = LowRank(b=b[:, is_used], a=a[is_used])
    return updates


def padded_state_dict(updates: Mapping[str, LowRank], dtype: torch.dtype) -> dict[str, Tensor]:
    """Factors under PEFT's keys, all of the largest rank: no reader can mistake their scale.

    The scale is 1 if it is ``alpha / r`` with ``alpha = r``, whether a reader takes ``r`` from the
    configuration or from the tensor, and whether it knows patterns or not.

    Raises
    ------
    AdapterError
        If a factor is not finite, or its numbers are beyond ``dtype``.
    """
    if dtype not in DTYPES:
        wanted = ", ".join(map(str, DTYPES))
        raise AdapterError(f"dtype is {dtype}, wanted for an adapter's tensors is one of {wanted}")
    rank = max((update.rank for update in updates.values()), default=0)
    state = {}
    for name, update in updates.items():
        if not update.rank:
            continue
        b, a = _rounded(name, update, dtype)
        lacking = rank - update.rank
        state[f"{PREFIX}{name}.lora_A.weight"] = pad(a, (0, 0, 0, lacking)).contiguous()
        state[f"{PREFIX}{name}.lora_B.weight"] = pad(b, (0, lacking)).contiguous()
    return state


def as_written(updates: Mapping[str, LowRank], dtype: torch.dtype) -> dict[str, LowRank]:
    """The updates that a file of this type holds.

    Raises
    ------
    AdapterError
        As `padded_state_dict` does.
    """
    pairs = {name: _rounded(name, update, dtype) for name, update in updates.items()}
    return {name: LowRank(b=b.float(), a=a.float()) for name, (b, a) in pairs.items()}


def narrowest_dtype(updates: Mapping[str, LowRank]) -> torch.dtype:
    """float16 where it holds every factor as it is, as it does those that a run sends."""
    factors = (factor for update in updates.values() for factor in (update.b, update.a))
    return torch.float16 if all(map(is_float16, factors)) else torch.float32


def is_float16(factor: Tensor) -> bool:
    """Whether float16 holds every number of it as it is."""
    return torch.equal(factor.to(torch.float16).float(), factor)


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefixed = [key for key in state if key.startswith(PREFIX)]
    if prefixed and len(prefixed) < len(state):
        other = next(key for key in state if not key.startswith(PREFIX))
        raise AdapterError(
            f"tensor {prefixed[0]!r} is under PEFT's prefix, {other!r} is not: one kind is wanted"
        )
    return {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}


def _pairs(state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Both factors of each weight, ``b`` first."""
    names: dict[str, None] = {}
    for key in state:
        name, _, kind = key.rpartition(".lora_")
        if kind not in ("A.weight", "B.weight") or not name:
            why = next((reason for part, reason in _FOREIGN.items() if part in key), "")
            raise AdapterError(
                f"unexpected tensor {key!r}: NAME.lora_A.weight and NAME.lora_B.weight are wanted"
                f"{'; ' if why else ''}{why}"
            )
        names[name] = None
    pairs = {}
    for name in names:
        try:
            pairs[name] = state[f"{name}.lora_B.weight"], state[f"{name}.lora_A.weight"]
        except KeyError as error:
            raise AdapterError(f"weight {name!r} lacks its factor {error}") from None
    return pairs


def _check_factors(name: str, b: Tensor, a: Tensor, rank: int, what: str) -> None:
    """Refuse factors that PEFT could not put where the configuration says."""
    for factor in (b, a):
        if not factor.is_floating_point():
            raise AdapterError(
                f"weight {name!r} has a factor of {factor.dtype}: floating-point numbers are wanted"
            )
    if b.ndim != 2 or a.ndim != 2 or b.shape[1] != rank or a.shape[0] != rank:
        raise AdapterError(
            f"weight {name!r} has lora_B {list(b.shape)} and lora_A {list(a.shape)}, but its rank "
            f"is {rank} in {what}: [out, {rank}] and [{rank}, in] are wanted; give the "
            "configuration (r, rank_pattern) that these tensors were made with"
        )


def _rounded(name: str, update: LowRank, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Both factors in ``dtype``; of equal size where that is not float32, so that both fit it."""
    b, a = update.b, update.a
    if not (b.isfinite().all() and a.isfinite().all()):
        raise AdapterError(f"weight {name!r} holds NaN or infinity, and is not written")
    if dtype is not torch.float32:
        b, a = _balanced(b, a)
    rounded = b.to(dtype), a.to(dtype)
    if not all(factor.isfinite().all() for factor in rounded):
        largest = max(b.abs().max().item(), a.abs().max().item())
        raise AdapterError(
            f"weight {name!r} has factors of up to {largest:.3g}, and {dtype} ends at "
            f"{torch.finfo(dtype).max:.3g}: write it as torch.bfloat16 or torch.float32"
        )
    return rounded


def _balanced(
    b: Float[Tensor, "out_features rank"], a: Float[Tensor, "rank in_features"]
) -> tuple[Tensor, Tensor]:
    """Each direction's two vectors made equally large by powers of two, which round nothing."""
    b, a = b.double(), a.double()
    b_size, a_size = b.abs().amax(dim=0), a.abs().amax(dim=1)
    is_used = (b_size > 0) & (a_size > 0)
    shift = torch.where(is_used, (a_size.log2() - b_size.log2()) / 2, 0.0).round()
    return b * torch.exp2(shift), a * torch.exp2(-shift)[:, None]
