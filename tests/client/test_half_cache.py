"""A half that was used before is, for the next message, as if it had been loaded for it."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from torch import Tensor

from benchmarks.tools.threads import be_the_server
from hsplit_flower.adapters import LowRank, to_state_dict
from hsplit_flower.batches import Batch
from hsplit_flower.client import LocalRound, round_setup
from hsplit_flower.client.app import split_evaluate, split_train
from hsplit_flower.client.half_cache import HalfCache, HalfKey
from hsplit_flower.devices.memory_budget import within_budget
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half, Parts
from hsplit_flower.types import Labels
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, METRICS_KEY, UPDATE_KEY
from tests.client.test_app import BATCHES, CUT, FAMILY, MODEL, NODE, SPEC, context, order_for
from tests.families import fields
from tests.rounds import architecture, below, global_update
from tests.workers import Worker, in_process, load_client, running_worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    be_the_server()
    with running_worker(FAMILY) as running:
        yield running


@pytest.fixture(autouse=True)
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[HalfKey]]:
    """An empty cache, and what has been loaded since."""
    loaded: list[HalfKey] = []
    real = round_setup._load

    def load(key: HalfKey, *args: Any) -> Half:
        loaded.append(key)
        return real(key, *args)

    monkeypatch.setattr(round_setup, "_load", load)
    round_setup.HALVES.clear()
    yield loaded
    round_setup.HALVES.clear()


def _factored() -> dict[str, LowRank]:
    """An update that stays in factors."""
    return {n: u for n, u in below(FAMILY, CUT).items() if u.rank <= 4}


def _run(worker: Worker, spec: SessionSpec = SPEC, **changed: Any) -> dict[str, Tensor | float]:
    """Everything that comes home from one message, but what was measured."""
    content = _reply(worker, spec, **changed)
    home: dict[str, Any] = {"loss": content.metric_records[METRICS_KEY]["loss-sum"]}
    if spec.train:
        home |= content.array_records[UPDATE_KEY].to_torch_state_dict()
    return home


def _reply(
    worker: Worker,
    spec: SessionSpec = SPEC,
    *,
    updates: dict[str, LowRank] | None = None,
    batches: Any = BATCHES,
    **changed: Any,
) -> RecordDict:
    updates = _factored() if updates is None else updates
    order = order_for(worker, spec, **changed)
    content = RecordDict(
        {
            "arrays": ArrayRecord(to_state_dict(updates)),
            INSTRUCTIONS_KEY: ConfigRecord(order.to_config()),
        }
    )
    message = Message(content=content, message_type=MessageType.TRAIN, dst_node_id=NODE)
    reply = (split_train if spec.train else split_evaluate)(message, context(), batches)
    worker.worker.close(order.token)
    assert not reply.has_error(), reply.error
    return reply.content


def _is_same(got: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return got.keys() == wanted.keys() and all(
        torch.equal(torch.as_tensor(got[key]), torch.as_tensor(wanted[key])) for key in wanted
    )


OTHER = SPEC.replace(ranks=dict.fromkeys(SPEC.ranks, 2), seed=9, learning_rate=1e-2)
OTHER_CUT = SPEC.replace(cut=1)
EVALUATION = SPEC.replace(ranks={}, train=False)


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("before", ["other ranks", "evaluation", "checkpointing", "nothing frozen"])
@pytest.mark.one_in(3)
def test_the_next_message_brings_home_bit_for_bit_the_same(
    worker: Worker, labels: Labels, before: str, loads: list[HalfKey]
) -> None:
    spec = SPEC.replace(labels=labels)
    fresh = _run(worker, spec, cached_halves=0)
    assert len(round_setup.HALVES._halves) == 0
    first: dict[str, Any] = {
        "other ranks": {"spec": OTHER.replace(labels=labels)},
        "evaluation": {"spec": EVALUATION.replace(labels=labels)},
        "checkpointing": {"spec": spec, "checkpointing": True},
        "nothing frozen": {"spec": spec, "updates": {}},
    }[before]
    _run(worker, **first)
    assert _is_same(_run(worker, spec), fresh)
    assert _is_same(_run(worker, spec), fresh)
    assert len(loads) == 2, "one without the cache, and one for all others"


def test_a_half_that_took_an_update_in_is_not_used_again(
    worker: Worker, loads: list[HalfKey]
) -> None:
    fresh = _run(worker, cached_halves=0)
    merged = _run(worker, updates=below(FAMILY, CUT))
    assert max(u.rank for u in below(FAMILY, CUT).values()) > 8
    assert not _is_same(merged, fresh)
    assert round_setup.HALVES.held_bytes("cpu") == 0
    assert _is_same(_run(worker), fresh)
    assert len(loads) == 3


def test_a_half_whose_round_failed_is_not_used_again(worker: Worker, loads: list[HalfKey]) -> None:
    def broken() -> Iterator[dict[str, Tensor]]:
        yield BATCHES[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _run(worker, batches=broken())
    assert round_setup.HALVES.held_bytes("cpu") == 0
    assert _is_same(_run(worker), _run(worker, cached_halves=0))


def test_what_decides_what_is_loaded_decides_what_is_kept(
    worker: Worker, loads: list[HalfKey]
) -> None:
    _run(worker)
    _run(worker, OTHER_CUT)
    _run(worker, model=MODEL.replace(dtype="bfloat16"))
    _run(worker, model=MODEL.replace(attention="eager"))
    _run(worker, SPEC.replace(labels=Labels.CLIENT))
    assert len(loads) == len(set(loads)) == 5
    assert len(round_setup.HALVES._halves) == 1


def test_a_leased_card_keeps_nothing(
    worker: Worker, loads: list[HalfKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_setup, "leased", lambda fraction, **_: nullcontext("cpu"))
    _run(worker, lease_gpu_fraction=0.5)
    assert round_setup.HALVES.held_bytes("cpu") == 0


def test_free_memory_is_told_as_if_nothing_were_kept(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = round_setup.machine_profile()
    monkeypatch.setattr(round_setup, "machine_profile", lambda dtype: plain)
    assert round_setup.machine_without_cache("float32").memory_bytes == plain.memory_bytes
    _run(worker)
    half = next(iter(round_setup.HALVES._halves.values()))
    own = sum(t.nbytes for t in (*half.model.parameters(), *half.model.buffers()))
    assert round_setup.machine_without_cache("float32").memory_bytes == plain.memory_bytes + own


def test_a_budget_counts_the_half_that_was_kept(worker: Worker) -> None:
    peaks = []
    for _ in range(2):
        order = order_for(worker, SPEC.replace(train=True), budget_bytes=1e9)
        content = RecordDict(
            {
                "arrays": ArrayRecord(to_state_dict(_factored())),
                INSTRUCTIONS_KEY: ConfigRecord(order.to_config()),
            }
        )
        message = Message(content=content, message_type=MessageType.TRAIN, dst_node_id=NODE)
        reply = split_train(message, context(), BATCHES)
        worker.worker.close(order.token)
        peaks.append(reply.content.metric_records[METRICS_KEY]["peak-bytes"])
    assert peaks[0] == peaks[1] > 0


def test_who_is_held_to_a_budget_keeps_no_other_half_beside_its_own(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def within(*args: Any, **settings: Any) -> Any:
        kept.append(len(round_setup.HALVES._halves))
        return within_budget(*args, **settings)

    monkeypatch.setattr(round_setup, "within_budget", within)
    for spec, budget_bytes in ((SPEC, 0.0), (OTHER_CUT, 0.0), (OTHER_CUT, 1e9), (SPEC, 1e9)):
        _run(worker, spec, cached_halves=3, budget_bytes=budget_bytes)
    # Others are gone before it is measured what is held.
    assert kept == [0, 1, 1, 0]
    assert len(round_setup.HALVES._halves) == 1


def test_simulated_clients_keep_each_others_halves_and_hold_what_they_would_alone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak_bytes(spec: SessionSpec) -> float:
        content = _reply(worker, spec, cached_halves=3, budget_bytes=1e9)
        return float(content.metric_records[METRICS_KEY]["peak-bytes"])

    alone = peak_bytes(SPEC)
    monkeypatch.setattr(round_setup, "is_rays_process", lambda: True)
    peak_bytes(OTHER_CUT)
    assert len(round_setup.HALVES._halves) == 2
    assert peak_bytes(SPEC) == alone
    assert len(round_setup.HALVES._halves) == 2


def test_taking_adapters_off_leaves_the_model_as_it_was() -> None:
    half = load_client(FAMILY, CUT)
    worker_names = [name for name, _ in half.model.named_modules()]
    attributes = set(vars(half.model))
    state = {name: tensor.clone() for name, tensor in half.model.state_dict().items()}
    with running_worker(FAMILY) as running:
        stream = in_process(running, running.worker.open(SPEC))
        local_round = LocalRound(half, _factored(), SPEC, stream)
        assert any("lora" in name for name, _ in half.model.named_modules())
        local_round.train([Batch(**fields())], probe=True)
        assert local_round.release_half()
    assert [name for name, _ in half.model.named_modules()] == worker_names
    assert set(vars(half.model)) == attributes
    assert not any(p.requires_grad or p.grad is not None for p in half.model.parameters())
    assert all(torch.equal(half.model.state_dict()[name], state[name]) for name in state)
    assert not any(module._forward_hooks for module in half.model.modules())


def _key(cut: int) -> HalfKey:
    parts = Parts.of_client(cut, keeps_labels=False)
    return HalfKey(
        model="m", parts=parts, revision=None, dtype=torch.float32, device="cpu", attention=None
    )


def _use(cache: HalfCache, cut: int, capacity: int, loaded: list[int]) -> None:
    def load() -> Half:
        loaded.append(cut)
        return load_client(FAMILY, cut)

    with cache.lend(_key(cut), load, capacity=capacity) as loan:
        loan.is_as_loaded = True


def test_the_one_used_longest_ago_goes_first() -> None:
    cache, loaded = HalfCache(), list[int]()
    for cut in (1, 2, 1, 3, 1, 2):
        _use(cache, cut, 2, loaded)
    assert loaded == [1, 2, 3, 2]


def test_what_does_not_stay_is_gone_before_the_next_is_loaded() -> None:
    cache = HalfCache()
    with cache.lend(_key(1), lambda: load_client(FAMILY, 1), capacity=1) as loan:
        loan.is_as_loaded = True
        model = weakref.ref(loan.half.model)
    del loan

    def load() -> Half:
        gc.collect()
        assert model() is None
        return load_client(FAMILY, 2)

    assert model() is not None
    with cache.lend(_key(2), load, capacity=1):
        assert cache.held_bytes("cpu") == 0


def test_a_half_is_lent_to_one_at_a_time() -> None:
    cache, loaded = HalfCache(), list[int]()
    _use(cache, 1, 1, loaded)
    with cache.lend(_key(1), lambda: pytest.fail("is there"), capacity=1) as first:
        _use(cache, 1, 1, loaded)
        first.is_as_loaded = True
    assert loaded == [1, 1]
    assert cache.held_bytes("cpu") > 0


def test_the_update_used_here_is_of_both_kinds() -> None:
    ranks = {u.rank for u in global_update(FAMILY).values()}
    assert min(ranks) == 0
    assert max(ranks) > 8
    assert {w.name for w in architecture(FAMILY).weights} == set(global_update(FAMILY))
