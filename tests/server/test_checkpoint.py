"""A run's state in a file: what is read back is equal, and what is no state is refused."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hsplit_flower.adapters import LowRank, UpdateSum
from hsplit_flower.devices.source import DevicesNow
from hsplit_flower.errors import ConfigError, OutOfBudgetError
from hsplit_flower.importance import ImportanceHistory
from hsplit_flower.methods import MethodState
from hsplit_flower.planning import StandingPlan
from hsplit_flower.server import RunState
from hsplit_flower.server.checkpoint import read_state, write_state
from hsplit_flower.server.client_registry import ClientRegistry
from hsplit_flower.server.memory_corrections import MemoryCorrections
from hsplit_flower.types import (
    ClientInfo,
    ClientPlan,
    DeviceProfile,
    MemoryParts,
    Plan,
    Shortfall,
    Span,
)
from tests.strategies.clients import WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of

NODE, OTHER = 2**64 - 5, 7
PROFILE = DeviceProfile(memory_bytes=1.5e9, flops_per_second=3e12, round_trip_seconds=0.02)


def assert_equal(one: Any, other: Any) -> None:
    """Equal in every field; adapters in every bit of their factors."""
    for each in fields(MethodState):
        mine, theirs = getattr(one.method, each.name), getattr(other.method, each.name)
        if each.name not in ("updates", "sums", "velocities", "weights"):
            assert mine == theirs, each.name
            continue
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert_same_bits(mine[name], theirs[name])
    same = replace(other, method=one.method, arrays=one.arrays)
    assert one == same
    assert list(one.arrays) == list(other.arrays)


def assert_same_bits(one: Any, other: Any) -> None:
    """Of factors, of a matrix, or of a sum in either form."""
    if isinstance(one, UpdateSum):
        one, other = one.content, other.content
    assert type(one) is type(other)
    pairs = [(one.b, other.b), (one.a, other.a)] if isinstance(one, LowRank) else [(one, other)]
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def low_rank(rank: int) -> LowRank:
    return LowRank(b=torch.randn(6, rank), a=torch.randn(rank, 4))


def full_state() -> RunState:
    """Something in every field."""
    part = ClientPlan(
        span=Span(start=0, stop=2),
        ranks={"a.b": 3, "a.c": 0},
        memory=MemoryParts(weights_bytes=12.5),
        wire_bytes=3.0,
    )
    short = Shortfall(needed_bytes=9.0, budget_bytes=2.0, correction=1.1)
    ran_out = OutOfBudgetError(predicted_bytes=10.0, measured_bytes=13.0, budget_bytes=12.0)
    method = MethodState(
        updates={"a.b": low_rank(3), "a.c": low_rank(0)},
        sums={"a.b": UpdateSum(content=torch.randn(6, 4)), "a.c": UpdateSum(content=low_rank(1))},
        velocities={"a.b": UpdateSum(content=low_rank(1))},
        weights={"a.b.weight": torch.randn(6, 4), "norm": torch.randn(3).half()},
        client_ranks={NODE: {"a.b": 2}},
        importance=ImportanceHistory(scores={"a.b": 0.1 + 0.2, "a.c": 0.0}, num_rounds=3),
        held_back_share=1e-3,
        dropped_share=2e-3,
    )
    state = RunState(
        server_round=4,
        method=method,
        arrays=RunState.fresh([]).arrays,
        standing=StandingPlan(
            plan=Plan(clients={NODE: part}, left_out={OTHER: short}, step_seconds=0.3),
            importance={"a.b": 1.0},
            profiles={NODE: PROFILE},
            num_rounds=2,
        ),
        corrections=MemoryCorrections().learned(NODE, ran_out),
        clients=ClientRegistry(
            known={
                NODE: ClientInfo(profile=PROFILE, num_examples=2**39, partition=0),
                OTHER: ClientInfo(profile=PROFILE, num_examples=1),
            }
        ),
        devices=DevicesNow(profiles={NODE: PROFILE}, away=frozenset({OTHER})),
        left_out={OTHER: short},
        failed=frozenset({NODE}),
        steps_per_client=10,
        base="what tells it from others",
    )
    return state.with_method(method)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    state = full_state()
    for each in fields(RunState):
        assert getattr(state, each.name) != getattr(RunState.fresh([]), each.name), each.name
    write_state(state, tmp_path / "state.safetensors")
    read = read_state(tmp_path / "state.safetensors")
    assert_equal(state, read)
    assert math.isinf(read.clients.known[NODE].profile.up_bytes_per_second)
    write_state(RunState.fresh([]), tmp_path / "state.safetensors")
    assert_equal(RunState.fresh([]), read_state(tmp_path / "state.safetensors"))
    assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]


def test_the_state_of_a_run_is_read_back(model: str, worker: WatchedWorker, tmp_path: Path) -> None:
    strategy = strategy_of(model, worker=worker, mean_rank=2, momentum=0.5, fleet="0.5,0.01,1")
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=2)
    state = strategy.state
    assert state.method.sums and state.method.velocities and state.left_out
    write_state(state, tmp_path / "state")
    assert_equal(state, read_state(tmp_path / "state"))


@pytest.mark.parametrize("kind", ["absent", "text", "other tensors", "other version", "cut off"])
def test_what_is_no_state_is_refused_by_its_path(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state"
    write_state(full_state(), path)
    content = path.read_bytes()
    if kind == "absent":
        path.unlink()
    elif kind == "text":
        path.write_text("pickle?", encoding="utf-8")
    elif kind == "other tensors":
        save_file({"w": torch.zeros(2)}, path)
    elif kind == "other version":
        changed = content.replace(b'\\"version\\": 1,', b'\\"version\\": 9,')
        assert changed != content
        path.write_bytes(changed)
    else:
        path.write_bytes(content[:-8])
    with pytest.raises(ConfigError, match=f"{path} holds no state of a run") as refused:
        read_state(path)
    told = str(refused.value)
    assert f"or begin a new run from what is there, with adapter = '{tmp_path}/adapter'" in told
    if kind == "other version":
        assert "a state of version 9, 1 is wanted. If another hsplit_flower wrote it, go on" in told
        assert "_" not in told.replace("hsplit_flower", "").replace(str(tmp_path), "")


def test_a_state_of_before_bases_were_kept_is_read(tmp_path: Path) -> None:
    path, state = tmp_path / "state", full_state()
    write_state(state, path)
    content = path.read_bytes()
    began = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + began])
    facts = json.loads(header["__metadata__"]["state"])
    assert facts["content"].pop("base")
    header["__metadata__"]["state"] = json.dumps(facts)
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + content[8 + began :])
    assert_equal(replace(state, base=""), read_state(path))


def test_a_sum_of_another_shape_than_its_update_is_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "state", full_state()
    sums = {"a.b": UpdateSum(content=torch.randn(5, 4))}
    write_state(state.with_method(replace(state.method, sums=sums)), path)
    with pytest.raises(ConfigError, match=r"its sum of 'a\.b' is of \[5, 4\]"):
        read_state(path)


def test_others_may_read_a_state_as_they_may_any_new_file(tmp_path: Path) -> None:
    path, plain = tmp_path / "state", tmp_path / "plain"
    write_state(full_state(), path)
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
