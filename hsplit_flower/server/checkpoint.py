"""The state of a run as one file, and back: tensors as safetensors, the rest as JSON in its header.

One file is replaced in one move, so that what is there is whole at any time. Nothing in it is code.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..adapters import LowRank, UpdateSum
from ..devices.source import DevicesNow
from ..errors import CodecError, ConfigError, HSplitError
from ..importance import ImportanceHistory
from ..methods import MethodState
from ..planning import StandingPlan
from ..reports.storage import storing
from ..splitting.tensor_file import save_tensors
from ..types import Shortfall
from ..wire.form import from_text, to_text
from .client_registry import ClientRegistry
from .global_adapter import arrays_of_state
from .memory_corrections import MemoryCorrections
from .state import RunState

_FACTS = "state"
_SUMS = ("sums", "velocities")
_WEIGHTS = "weights/"


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What of a state is no tensor."""

    server_round: int
    weights: tuple[str, ...]
    client_ranks: Mapping[int, Mapping[str, int]]
    importance: ImportanceHistory
    held_back_share: float
    dropped_share: float
    standing: StandingPlan | None
    corrections: MemoryCorrections
    clients: ClientRegistry
    devices: DevicesNow
    left_out: Mapping[int, Shortfall]
    failed: frozenset[int]
    steps_per_client: int
    base: str = ""


def write_state(state: RunState, path: Path) -> None:
    """Put a state where another one may be.

    Raises
    ------
    StorageError
        If it cannot be written; what was there is there still.
    """
    method = state.method
    facts = _Facts(
        server_round=state.server_round,
        weights=tuple(method.updates),
        client_ranks=method.client_ranks,
        importance=method.importance,
        held_back_share=method.held_back_share,
        dropped_share=method.dropped_share,
        standing=state.standing,
        corrections=state.corrections,
        clients=state.clients,
        devices=state.devices,
        left_out=state.left_out,
        failed=state.failed,
        steps_per_client=state.steps_per_client,
        base=state.base,
    )
    fresh = path.with_name(f"{path.name}.new")
    tensors = dict(_adapter_tensors(method.updates))
    for kind in _SUMS:
        tensors |= dict(_sum_tensors(kind, getattr(method, kind)))
    tensors |= {f"{_WEIGHTS}{name}": tensor for name, tensor in method.weights.items()}
    try:
        with storing(path):
            save_tensors(fresh, tensors, metadata={_FACTS: to_text(facts)})
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def read_state(path: Path) -> RunState:
    """The state that a file holds.

    Raises
    ------
    ConfigError
        If there is none, or it is none, or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})[_FACTS]
            facts = from_text(_Facts, text, most_characters=math.inf, called="state", to_change="")
            tensors = {key: file.get_tensor(key) for key in file.offset_keys()}
        _check_whole(facts, tensors)
        updates = {name: _factors("updates", tensors, name) for name in facts.weights}
        sums = {kind: _sums(kind, tensors, facts.weights) for kind in _SUMS}
        for kind in _SUMS:
            _check_shapes(updates, sums[kind])
    except (OSError, SafetensorError, KeyError, HSplitError, ValueError) as error:
        raise ConfigError(
            f"{path} holds no state of a run: {error}. If another hsplit_flower wrote it, go on "
            f"with that one; or begin a new run from what is there, with adapter = "
            f"'{path.parent / 'adapter'}'"
        ) from error
    method = MethodState(
        updates=updates,
        sums=sums["sums"],
        velocities=sums["velocities"],
        weights=_weights(tensors),
        client_ranks=facts.client_ranks,
        importance=facts.importance,
        held_back_share=facts.held_back_share,
        dropped_share=facts.dropped_share,
    )
    return RunState(
        server_round=facts.server_round,
        method=method,
        arrays=arrays_of_state(method),
        standing=facts.standing,
        corrections=facts.corrections,
        clients=facts.clients,
        devices=facts.devices,
        left_out=facts.left_out,
        failed=facts.failed,
        steps_per_client=facts.steps_per_client,
        base=facts.base,
    )


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = (key for key in tensors if key.startswith(_WEIGHTS))
    return {key.removeprefix(_WEIGHTS): tensors[key] for key in names}


def _adapter_tensors(adapter: Mapping[str, LowRank]) -> Iterator[tuple[str, Tensor]]:
    for name, update in adapter.items():
        yield from _factor_tensors("updates", name, update)


def _sum_tensors(kind: str, sums: Mapping[str, UpdateSum]) -> Iterator[tuple[str, Tensor]]:
    for name, total in sums.items():
        if isinstance(total.content, LowRank):
            yield from _factor_tensors(kind, name, total.content)
        else:
            yield f"{kind}/matrix/{name}", total.content.contiguous()


def _factor_tensors(kind: str, name: str, update: LowRank) -> Iterator[tuple[str, Tensor]]:
    yield f"{kind}/b/{name}", update.b.contiguous()
    yield f"{kind}/a/{name}", update.a.contiguous()


def _check_whole(facts: _Facts, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a file that lacks a weight, or holds what is no number."""
    missing = [name for name in facts.weights if f"updates/b/{name}" not in tensors]
    if missing:
        raise CodecError(f"it has no update of {missing[0]!r}")
    wrong = [key for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    shares = (facts.held_back_share, facts.dropped_share)
    if wrong or facts.server_round < 0 or not all(map(math.isfinite, shares)):
        raise CodecError(f"it holds numbers that are none: {wrong[:1] or 'a round, or a share'}")


def _factors(kind: str, tensors: Mapping[str, Tensor], name: str) -> LowRank:
    return LowRank(b=tensors[f"{kind}/b/{name}"], a=tensors[f"{kind}/a/{name}"])


def _sums(kind: str, tensors: Mapping[str, Tensor], weights: Sequence[str]) -> dict[str, UpdateSum]:
    """By weight name, in the model's order, as `_sum_tensors` wrote it."""
    sums = {}
    for name in weights:
        if f"{kind}/matrix/{name}" in tensors:
            sums[name] = UpdateSum(content=tensors[f"{kind}/matrix/{name}"])
        elif f"{kind}/b/{name}" in tensors:
            sums[name] = UpdateSum(content=_factors(kind, tensors, name))
    return sums


def _check_shapes(updates: Mapping[str, LowRank], sums: Mapping[str, UpdateSum]) -> None:
    """Refuse a sum of another weight than its update's."""
    for name, total in sums.items():
        got = (total.out_features, total.in_features)
        if got != (updates[name].out_features, updates[name].in_features):
            raise CodecError(f"its sum of {name!r} is of {list(got)}, its update is not")
