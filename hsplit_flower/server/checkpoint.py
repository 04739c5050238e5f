"""The state of a run as one file, and back: tensors as safetensors, the rest as JSON in its header.

One file is replaced in one move, so that what is there is whole at any time. Nothing in it is code.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..adapters import LowRank, to_state_dict
from ..devices.source import DevicesNow
from ..errors import CodecError, ConfigError
from ..importance import ImportanceHistory
from ..methods import MethodState
from ..planning import StandingPlan
from ..types import Shortfall
from ..wire.form import from_text, to_text
from .client_registry import ClientRegistry
from .memory_corrections import MemoryCorrections
from .state import RunState

_FACTS = "state"
_ADAPTERS = ("updates", "remainders", "velocities")


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What of a state is no tensor."""

    server_round: int
    weights: tuple[str, ...]
    importance: ImportanceHistory
    dropped_energy: float
    standing: StandingPlan | None
    corrections: MemoryCorrections
    clients: ClientRegistry
    devices: DevicesNow
    left_out: Mapping[int, Shortfall]
    failed: frozenset[int]
    silent: frozenset[int]
    steps_per_client: int


def write_state(state: RunState, path: Path) -> None:
    """Put a state where another one may be.

    Raises
    ------
    OSError
        If it cannot be written; what was there is there still.
    """
    method = state.method
    facts = _Facts(
        server_round=state.server_round,
        weights=tuple(method.updates),
        importance=method.importance,
        dropped_energy=method.dropped_energy,
        standing=state.standing,
        corrections=state.corrections,
        clients=state.clients,
        devices=state.devices,
        left_out=state.left_out,
        failed=state.failed,
        silent=state.silent,
        steps_per_client=state.steps_per_client,
    )
    fresh = path.with_name(f"{path.name}.new")
    tensors = dict(pair for kind in _ADAPTERS for pair in _tensors(kind, getattr(method, kind)))
    try:
        save_file(tensors, fresh, metadata={_FACTS: to_text(facts)})
        fresh.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
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
            facts = from_text(_Facts, (file.metadata() or {})[_FACTS], most_characters=math.inf)
            tensors = {key: file.get_tensor(key) for key in file.offset_keys()}
        _check_whole(facts, tensors)
        adapters = {kind: _adapter(kind, tensors, facts.weights) for kind in _ADAPTERS}
    except (OSError, SafetensorError, KeyError, CodecError, ValueError) as error:
        raise ConfigError(f"{path} holds no state of a run: {error}") from error
    method = MethodState(
        **adapters, importance=facts.importance, dropped_energy=facts.dropped_energy
    )
    return RunState(
        server_round=facts.server_round,
        method=method,
        arrays=ArrayRecord(to_state_dict(method.updates)),
        standing=facts.standing,
        corrections=facts.corrections,
        clients=facts.clients,
        devices=facts.devices,
        left_out=facts.left_out,
        failed=facts.failed,
        silent=facts.silent,
        steps_per_client=facts.steps_per_client,
    )


def _tensors(kind: str, adapter: Mapping[str, LowRank]) -> list[tuple[str, Tensor]]:
    return [
        (f"{kind}/{factor}/{name}", tensor.contiguous())
        for name, update in adapter.items()
        for factor, tensor in (("b", update.b), ("a", update.a))
    ]


def _check_whole(facts: _Facts, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a file that lacks a weight, or holds what is no number."""
    missing = [name for name in facts.weights if f"updates/b/{name}" not in tensors]
    if missing:
        raise CodecError(f"it has no update of {missing[0]!r}")
    wrong = [key for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if wrong or facts.server_round < 0 or not math.isfinite(facts.dropped_energy):
        raise CodecError(f"it holds numbers that are none: {wrong[:1] or 'a round, or an energy'}")


def _adapter(
    kind: str, tensors: Mapping[str, Tensor], weights: Sequence[str]
) -> dict[str, LowRank]:
    """By weight name, in the model's order, as `_tensors` wrote it."""
    return {
        name: LowRank(b=tensors[f"{kind}/b/{name}"], a=tensors[f"{kind}/a/{name}"])
        for name in weights
        if f"{kind}/b/{name}" in tensors
    }
