"""Sessions are opened with a cut and ranks that the model has, or not at all."""

import pytest

from hsplit_flower.errors import AdapterError, SplitError
from hsplit_flower.worker import Stage
from tests.rounds import architecture
from tests.worker.steps import FAMILY, SPEC
from tests.workers import load_worker


@pytest.fixture
def stage() -> Stage:
    return Stage(load_worker(FAMILY))


def test_a_session_adapts_the_weights_above_its_cut_that_have_a_rank(stage: Stage) -> None:
    for cut in (1, 2, 3):
        session = stage.open(SPEC.replace(cut=cut))
        wanted = {
            w.name: SPEC.ranks[w.name]
            for w in architecture(FAMILY).weights
            if w.block >= cut and SPEC.ranks[w.name]
        }
        assert {name: t.a.shape[0] for name, t in session.trainables.items()} == wanted


@pytest.mark.parametrize("cut", [0, 4])
def test_a_cut_that_the_model_does_not_have_is_refused(stage: Stage, cut: int) -> None:
    with pytest.raises(SplitError, match=f"cut {cut} is out of range"):
        stage.open(SPEC.replace(cut=cut))


@pytest.mark.parametrize(
    ("ranks", "message"),
    [({"nope": 2}, r"no weights \['nope'\]"), ({"o_proj": 10**6}, "rank 1000000 for .*at most 16")],
)
def test_ranks_that_the_model_cannot_have_are_refused(
    stage: Stage, ranks: dict[str, int], message: str
) -> None:
    names = {
        weight.name.rpartition(".")[2]: weight.name for weight in stage.half.architecture.weights
    }
    asked = {names.get(name, name): rank for name, rank in ranks.items()}
    with pytest.raises(AdapterError, match=message):
        stage.open(SPEC.replace(ranks=asked))


def test_a_cut_below_the_workers_first_block_is_refused() -> None:
    stage = Stage(load_worker(FAMILY, lowest_cut=2))
    with pytest.raises(SplitError, match="cut 1 is below 2, the first block of this worker"):
        stage.open(SPEC.replace(cut=1))
    stage.open(SPEC.replace(cut=3))
