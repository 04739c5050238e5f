"""A session that has of the global adapter only what it trains."""

import pytest
import torch

from hsplit_flower.types import Start
from hsplit_flower.worker import Stage
from tests.rounds import global_update
from tests.worker.steps import FAMILY, SPEC, factors_of, forward
from tests.workers import load_worker

TRUNCATED = SPEC.replace(truncates=True)


@pytest.mark.parametrize("start", [Start.CONTINUE, Start.FACTORS])
def test_it_computes_as_one_on_a_worker_that_holds_no_more(start: Start) -> None:
    """Also where the whole update, being dear in factors, has gone into the weights."""
    spec = TRUNCATED.replace(start=start)
    update = global_update(FAMILY)
    whole, cut_off = Stage(load_worker(FAMILY)), Stage(load_worker(FAMILY))
    whole.load_update(update)
    cut_off.load_update({n: u.head(spec.ranks.get(n, 0)) for n, u in update.items()})
    assert any(u.rank > spec.ranks.get(n, 0) for n, u in update.items())
    got, wanted = whole.open(spec), cut_off.open(spec)
    for step in (1, 2):
        first, second = (
            stage.handle(session, forward(step=step))
            for stage, session in ((whole, got), (cut_off, wanted))
        )
        assert first.loss_sum == pytest.approx(second.loss_sum, rel=1e-4)
    for name, factor in factors_of(wanted).items():
        torch.testing.assert_close(factors_of(got)[name], factor, rtol=2e-2, atol=2e-3)


def test_others_beside_it_have_all_of_it() -> None:
    stage = Stage(load_worker(FAMILY))
    stage.load_update(global_update(FAMILY))
    before = stage.handle(stage.open(SPEC), forward()).loss_sum
    truncated = stage.handle(stage.open(TRUNCATED), forward()).loss_sum
    after = stage.handle(stage.open(SPEC), forward()).loss_sum
    assert after == pytest.approx(before, rel=1e-6)
    assert truncated != pytest.approx(before, rel=1e-4)
