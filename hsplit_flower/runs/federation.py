"""The server's side of a run: the strategy, its rounds, and what they leave."""

import time
from collections.abc import Callable
from logging import INFO
from pathlib import Path

from flwr.app import ArrayRecord, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid

from ..adapters import import_adapter, to_state_dict
from ..errors import HSplitError
from ..reports import RunFolder
from ..server import is_deployed
from ..server.federated_strategy import FederatedStrategy
from ..server.past_run import PastRun
from ..strategies import STRATEGIES
from .resumed_run import read_resumed
from .run_config import RunConfig
from .run_record import RunRecord

Evaluation = Callable[[int, ArrayRecord], MetricRecord | None]
"""Of the global model after a round, on the server."""


def strategy_of(config: RunConfig, *, is_deployed: bool = False) -> FederatedStrategy:
    """The method that the run-config names, as it sets it.

    Simulated clients have the devices of a fleet, also where none is named. Deployed ones have what
    they say.
    """
    settings = config.run
    if not is_deployed:
        settings = settings.replace(simulation=settings.simulation.with_fleet())
    return STRATEGIES[config.app.strategy](**settings.given())


def run_rounds(grid: Grid, config: RunConfig, evaluate: Evaluation | None) -> None:
    """Fine-tune, and leave settings, metrics, plan, state and adapter in the run's folder.

    Parameters
    ----------
    grid
        Of the run, as Flower hands it over.
    config
        All settings.
    evaluate
        The server's evaluation; None where it has none.

    Raises
    ------
    HSplitError
        If no round was completed, so that Flower counts the run as failed; or as the strategy's.
    """
    started = time.perf_counter()
    strategy = strategy_of(config, is_deployed=is_deployed(grid))
    resumed = read_resumed(config, strategy.settings)
    has_initial = bool(config.app.adapter) and resumed is None
    initial = import_adapter(config.app.adapter) if has_initial else {}
    with _folder_of(config, resumed) as folder:
        record = RunRecord(folder, config, strategy)
        strategy.observer = record.trained
        strategy.evaluation_observer = record.evaluated_by_clients
        strategy.personalisation.observer = record.personalised
        try:
            strategy.start(
                grid,
                ArrayRecord(to_state_dict(initial)),
                num_rounds=config.app.num_server_rounds,
                timeout=config.app.round_timeout_seconds,
                evaluate_fn=_recorded(evaluate, record),
                resume=resumed.state if resumed else None,
            )
        except HSplitError as error:
            error.args = (f"{error}\n{record.left()}",)
            raise
        finally:
            record.summarise()
    seconds = time.perf_counter() - started
    told = (record.quality(), seconds, record.learnt(), record.result())
    log(INFO, "%s in %.1f s, %s; %s", *told)


def _recorded(evaluate: Evaluation | None, record: RunRecord) -> Evaluation:
    """The evaluation, each round once: a run that goes on has measured some already."""

    def evaluate_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if evaluate is None or server_round in record.history.perplexities:
            return None
        metrics = evaluate(server_round, arrays)
        if metrics is not None:
            record.evaluated(server_round, metrics)
        return metrics

    return evaluate_round


def _folder_of(config: RunConfig, resumed: PastRun | None) -> RunFolder:
    """A new folder, or that of the run that goes on."""
    if resumed is not None:
        return RunFolder(resumed.folder, goes_on_after=resumed.state.server_round)
    name = config.app.run_name or time.strftime("%Y%m%d-%H%M%S")
    return RunFolder(Path(config.app.output_dir) / name)
