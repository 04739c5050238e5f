"""Rounds on a base in 4 bits: asked for by a setting, and as a checkpoint has it."""

from collections.abc import Iterator

import pytest

from hsplit_flower.server import RoundReport, ServerEvaluation
from hsplit_flower.settings import Model
from hsplit_flower.types import Labels
from hsplit_flower.worker.hosting import host_worker
from tests.reference.quantised import stored_folder
from tests.strategies.clients import NODES, WatchedWorker, client_app, held_out, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of, training

COMPUTES_IN = "float32"


@pytest.fixture(scope="module", params=["asked for", "stored"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    if request.param == "stored":
        folder = tmp_path_factory.mktemp("stored")
        return Model(name=stored_folder("llama", "nf4", str(folder)))
    model: str = request.getfixturevalue("model")
    return Model(name=model, dtype="nf4", computing_dtype=COMPUTES_IN)


@pytest.fixture(scope="module")
def serving(base: Model) -> Iterator[WatchedWorker]:
    worker = host_worker(base)
    try:
        yield WatchedWorker(worker)
    finally:
        worker.stop()


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.one_in(3)
def test_rounds_are_inside_budgets_and_evaluate_like_the_whole_model(
    base: Model, serving: WatchedWorker, labels: Labels
) -> None:
    examples = [batch for partition in range(3) for batch in held_out(partition)]
    reports: list[RoundReport] = []
    strategy = strategy_of(
        base,
        worker=serving,
        fraction_evaluate=1.0,
        training=training(labels=labels),
        fleet="0.7,0.9,1.3",
        observer=reports.append,
    )
    assert strategy.planner.costs.workload.quantised == "nf4"
    evaluate_fn = ServerEvaluation(base, lambda: examples, device="cpu")
    with LocalGrid(client_app(), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=2, evaluate_fn=evaluate_fn)
    for report in reports:
        assert set(report.clients) == set(NODES)
        for client in report.clients.values():
            assert client.dropped is None
            assert 0 < client.peak_bytes <= client.budget_bytes
            assert client.peak_bytes <= 1.1 * client.plan.memory.total_bytes
    losses = []
    for server_round in (1, 2):
        split = result.evaluate_metrics_clientapp[server_round]
        whole = result.evaluate_metrics_serverapp[server_round]
        assert split["num-clients"] == 3
        assert split["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        losses.append(split["loss"])
    assert losses[1] != pytest.approx(result.evaluate_metrics_serverapp[0]["loss"], rel=3e-4)
