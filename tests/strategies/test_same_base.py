"""Sites with another base than the worker's: left out by name before anybody trains."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from hsplit_flower.client.app import split_train
from hsplit_flower.errors import ConfigError, HSplitError
from hsplit_flower.server import RoundReport, ServerEvaluation
from hsplit_flower.settings import Model
from hsplit_flower.settings import Worker as WorkerSettings
from hsplit_flower.splitting.model_name import SINGLE_FILE
from hsplit_flower.strategies import FLoRA
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, Instructions
from hsplit_flower.worker.hosting import host_worker
from tests.families import save
from tests.reference.quantised import stored_folder
from tests.splitting.checkpoints import fetch_into_cache, in_hubs_cache, rewrite, sharded, single
from tests.strategies.bad_client import BAD_NODE, GOOD_NODES, strategy_of
from tests.strategies.clients import (
    NAMES,
    NODES,
    WatchedWorker,
    client_app,
    held_out,
    node_configs,
)
from tests.strategies.fixtures import OPERATOR_TOKEN
from tests.strategies.local_grid import LocalGrid
from tests.strategies.whole_rounds import Rounds, whole_app


def other_values(folder: Path) -> str:
    copy = single("llama", folder)
    rewrite(copy, lambda tensors: {key: 1.05 * one for key, one in tensors.items()})
    return str(copy)


def of_sixteen_bits(folder: Path) -> str:
    model = AutoModelForCausalLM.from_pretrained(single("llama", folder), dtype=torch.bfloat16)
    return str(save(model, folder / "narrow"))


def quantised(folder: Path) -> str:
    return stored_folder("llama", "nf4", str(folder))


def other_vocabulary(folder: Path) -> str:
    model = AutoModelForCausalLM.from_pretrained(single("llama", folder))
    model.resize_token_embeddings(70, mean_resizing=False)
    return str(save(model, folder / "wider"))


SITES: dict[str, tuple[Callable[[Path], str], str]] = {
    "another revision": (other_values, "the values of 30 of 30 tensors are other ones"),
    "another type": (of_sixteen_bits, "stored in BF16 where F32 is wanted"),
    "quantised": (quantised, "it is quantised to nf4 in its files, and not quantised is wanted"),
    "another shape": (other_vocabulary, "is of shape [70, 16], and [61, 16] is wanted"),
    "another family": (lambda folder: str(single("gpt2", folder)), "it has 'transformer.h.0."),
}
"""Who has what, and what is told of it."""


def run_with(site: str, model: str, worker: WatchedWorker, **settings: Any) -> list[RoundReport]:
    """Rounds in which one site has a model of its own."""
    configs = node_configs()
    configs[BAD_NODE]["model"] = site
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append, **settings)
    with LocalGrid(client_app(), configs) as grid:
        strategy.start(grid, num_rounds=1)
    return reports


@pytest.mark.parametrize("kind", SITES)
def test_a_site_with_another_base_is_left_out_and_the_others_go_on(
    kind: str, model: str, worker: WatchedWorker, flower_log: list[str], tmp_path: Path
) -> None:
    make, told = SITES[kind]
    (report,) = run_with(make(tmp_path), model, worker)
    assert set(report.clients) == GOOD_NODES
    assert all(client.dropped is None for client in report.clients.values())
    assert worker.specs and {spec.client for spec in worker.specs.values()} <= GOOD_NODES
    left = report.left_out[BAD_NODE]
    assert left.kind == "refused"
    assert told in left.reason
    assert any("client clinic-1 is left out: it has another base than" in e for e in flower_log)


def test_a_site_with_a_copy_in_shards_takes_part(
    model: str, worker: WatchedWorker, tmp_path: Path
) -> None:
    (report,) = run_with(str(sharded("llama", tmp_path)), model, worker)
    assert set(report.clients) == set(NODES)


def test_a_site_that_fetches_its_base_late_is_refused_once_it_has_it(
    model: str, worker: WatchedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a hub that gives another commit by then: nothing was there to be asked about."""
    home, folder = tmp_path / "home", Path(other_values(tmp_path))
    site = in_hubs_cache(home, monkeypatch, folder, leave=SINGLE_FILE)
    steps: list[int] = []

    def train(msg: Any, context: Any, some: Any) -> Any:
        told = Instructions.from_config(msg.content.config_records[INSTRUCTIONS_KEY])
        fetch_into_cache(home, SINGLE_FILE)
        reply = split_train(msg, context, some)
        steps.append(told.session.client)
        return reply

    configs = node_configs()
    configs[BAD_NODE]["model"] = site
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append)
    with LocalGrid(client_app(faults={1: train}), configs) as grid:
        strategy.start(grid, num_rounds=1)
    assert steps == [BAD_NODE]
    dropped = reports[0].clients[BAD_NODE].dropped
    assert dropped is not None and "it has another base than the run: the values of" in dropped
    clients = reports[0].clients
    assert {node for node in clients if clients[node].dropped is None} == GOOD_NODES


@pytest.fixture
def other_worker(tmp_path: Path) -> Iterator[WatchedWorker]:
    hosted = host_worker(
        Model(name=other_values(tmp_path)), WorkerSettings(operator_token=OPERATOR_TOKEN)
    )
    yield WatchedWorker(hosted)
    hosted.stop()


def test_a_worker_with_another_base_than_the_server_ends_the_run_before_it_begins(
    model: str, other_worker: WatchedWorker
) -> None:
    strategy = strategy_of(model, other_worker)
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match="it has another base than the server: the values of 30"),
    ):
        strategy.start(grid, num_rounds=1)
    assert not grid.sent


def test_a_run_does_not_go_on_on_another_base_than_it_began_with(
    model: str, worker: WatchedWorker, other_worker: WatchedWorker
) -> None:
    """As where a folder has been given another checkpoint meanwhile."""
    first = strategy_of(model, worker)
    with LocalGrid(client_app(), node_configs()) as grid:
        first.start(grid, num_rounds=1)
    second = strategy_of(other_worker.describe().model, other_worker)
    says = "is another base than when the run began: the values of 30 of 30 tensors are other ones"
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match=says),
    ):
        second.start(grid, num_rounds=2, resume=first.state)
    assert not grid.sent


def test_an_evaluation_of_another_base_ends_the_run_before_it_begins(
    model: str, worker: WatchedWorker, tmp_path: Path
) -> None:
    evaluate = ServerEvaluation(other_values(tmp_path), lambda: held_out(0), device="cpu")
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match="evaluation cannot be used: it has another base than"),
    ):
        strategy_of(model, worker).start(grid, num_rounds=1, evaluate_fn=evaluate)
    assert not grid.sent


def test_an_evaluation_that_is_quantised_otherwise_is_refused(
    model: str, worker: WatchedWorker
) -> None:
    evaluate = ServerEvaluation(Model(name=model, dtype="nf4"), lambda: held_out(0), device="cpu")
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match="quantised to nf4, and the run's is not quantised"),
    ):
        strategy_of(model, worker).start(grid, num_rounds=1, evaluate_fn=evaluate)


@pytest.mark.parametrize("has_files", [True, False])
def test_whole_models_are_held_to_the_servers_base_or_to_that_of_most(
    has_files: bool, model: str, tmp_path: Path
) -> None:
    """A server that only has the configuration knows nothing of the weights."""
    site = other_values(tmp_path / "site")
    rounds = Rounds(model if has_files else str(_config_only(model, tmp_path)), FLoRA)
    configs = node_configs(model=model)
    configs[BAD_NODE]["model"] = site
    with LocalGrid(whole_app(), configs) as grid:
        rounds.strategy.observer = rounds.reports.append
        rounds.strategy.start(grid, num_rounds=1)
    (report,) = rounds.reports
    assert set(report.clients) == GOOD_NODES
    whose = "the server" if has_files else "most of the clients"
    assert f"it has another base than {whose}" in report.left_out[BAD_NODE].reason


def _config_only(model: str, folder: Path) -> Path:
    (bare := folder / "bare").mkdir()
    (bare / "config.json").write_bytes((Path(model) / "config.json").read_bytes())
    return bare


def test_where_no_site_has_the_workers_base_all_are_told(
    model: str, other_worker: WatchedWorker, flower_log: list[str], tmp_path: Path
) -> None:
    """The server has no weights that would say who is wrong."""
    strategy = strategy_of(str(_config_only(model, tmp_path)), other_worker)
    with (
        LocalGrid(client_app(), node_configs(model=model)) as grid,
        pytest.raises(HSplitError, match="0 of 1 rounds completed"),
    ):
        strategy.start(grid, num_rounds=1)
    (told,) = [e for e in flower_log if "left out: each has another base than the split w" in e]
    assert all(NAMES[node] in told for node in NODES)
    assert not other_worker.specs
