"""The global update in a worker's half: in factors or in the weights, and out of them again."""

import pytest
import torch
from torch import Tensor

from hsplit_flower.adapters import LowRank
from hsplit_flower.errors import AdapterError
from hsplit_flower.splitting.linear import linear_at, matrix_of
from hsplit_flower.types import Start
from hsplit_flower.worker import Stage
from tests.reference.unsplit import base_model
from tests.rounds import architecture, global_update
from tests.tolerances import assert_same
from tests.worker.steps import BATCH, FAMILY, SPEC, factors_of, forward, is_equal
from tests.workers import load_client, load_worker


@pytest.fixture
def stage() -> Stage:
    return Stage(load_worker(FAMILY))


def _weights(stage: Stage) -> dict[str, Tensor]:
    return {
        weight.name: matrix_of(linear_at(stage.half.model, weight.name)).clone()
        for weight in stage.half.architecture.weights_in(stage.half.parts.span)
    }


def test_updates_that_are_merged_are_taken_out_again(stage: Stage) -> None:
    pristine = _weights(stage)
    stage.load_update(global_update(FAMILY))
    merged = {
        name for name, matrix in _weights(stage).items() if not torch.equal(matrix, pristine[name])
    }
    updates = {name: global_update(FAMILY)[name] for name in pristine}
    assert merged == {
        n for n, u in updates.items() if u.b.numel() + u.a.numel() > pristine[n].numel()
    }
    assert 0 < len(merged) < len(pristine)
    once = _weights(stage)
    for scale in (10.0, 1e4, 1e-4):
        stage.load_update({n: u.scale(scale) for n, u in global_update(FAMILY).items()})
    stage.load_update(global_update(FAMILY))
    assert is_equal(_weights(stage), once)
    stage.load_update({})
    assert is_equal(_weights(stage), pristine)


@pytest.mark.parametrize("start", Start)
def test_the_global_update_is_there_in_factors_and_in_weights(stage: Stage, start: Start) -> None:
    """Whatever part of it a session trains, and where the rest is kept, it starts as all of it."""
    ids, mask = BATCH["input_ids"], BATCH["attention_mask"]
    above = {n: u for n, u in global_update(FAMILY).items() if n in _weights(stage)}
    client = load_client(FAMILY, 1)
    hidden = client.embed(ids, mask)
    stage.load_update(above)
    session = stage.open(SPEC.replace(cut=1, start=start))
    reply = stage.handle(session, forward(hidden=hidden))
    model = base_model(FAMILY, {name: update.dense() for name, update in above.items()})
    with torch.no_grad():
        wanted = model(**BATCH).loss.item()
    assert reply.loss_sum / reply.num_tokens == pytest.approx(wanted, rel=1e-5)


def test_a_narrower_base_keeps_its_weights_and_the_factors_their_precision() -> None:
    stage = Stage(load_worker(FAMILY, dtype=torch.bfloat16))
    pristine = _weights(stage)
    stage.load_update(global_update(FAMILY))
    assert is_equal(_weights(stage), pristine)
    session = stage.open(SPEC)
    reply = stage.handle(session, forward())
    assert reply.gradient.dtype == torch.bfloat16
    assert {factor.dtype for factor in factors_of(session).values()} == {torch.float32}
    whole = Stage(load_worker(FAMILY))
    whole.load_update(global_update(FAMILY))
    wanted = whole.handle(whole.open(SPEC), forward())
    assert reply.loss_sum == pytest.approx(wanted.loss_sum, rel=2e-2)
    assert_same(reply.gradient, wanted.gradient, dtype=torch.bfloat16)


def test_weights_of_the_clients_half_are_left_out_of_an_update() -> None:
    stage = Stage(load_worker(FAMILY, lowest_cut=2))
    stage.load_update(global_update(FAMILY))
    session = stage.open(SPEC)
    assert {name.split(".")[2] for name in session.active.terms} == {"2"}


def test_an_update_that_does_not_fit_leaves_the_one_before(stage: Stage) -> None:
    name = architecture(FAMILY).weights[-1].name
    stage.load_update(global_update(FAMILY))
    before, weights = factors_of(stage.open(SPEC)), _weights(stage)
    with pytest.raises(AdapterError, match=r"no weights \['nothing'\]"):
        stage.load_update({"nothing": LowRank.zeros(1, 1)})
    with pytest.raises(AdapterError, match=name):
        stage.load_update({name: LowRank.zeros(3, 3)})
    assert is_equal(factors_of(stage.open(SPEC)), before)
    assert is_equal(_weights(stage), weights)
