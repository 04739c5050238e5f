"""The server: the strategy, the dev set, and the folder that the run leaves."""

import time
from logging import INFO
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from hsplit_flower.adapters import import_adapter, to_state_dict
from hsplit_flower.errors import HSplitError
from hsplit_flower.reports import RunFolder
from hsplit_flower.server.flower_log import errors_in_words
from hsplit_flower.server.past_run import PastRun
from hsplit_flower.server.preflight import is_deployed
from nlg.assemble import evaluation_of, strategy_of
from nlg.resumed_run import read_resumed
from nlg.run_config import RunConfig
from nlg.run_record import RunRecord

app = ServerApp()


@app.main()
@errors_in_words()
def main(grid: Grid, context: Context) -> None:
    """Fine-tune, and leave settings, metrics, plan, state and adapter in the run's folder.

    A run of which no round was completed ends with an error, so that Flower counts it as failed.
    """
    started = time.perf_counter()
    config = RunConfig.from_run_config(context.run_config)
    strategy = strategy_of(config, is_deployed=is_deployed(grid))
    evaluate = evaluation_of(config)
    initial = import_adapter(config.app.adapter) if config.app.adapter else {}
    resumed = read_resumed(config, strategy.settings)
    with _folder_of(config, resumed) as folder:
        record = RunRecord(folder, config, strategy)

        def evaluate_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            if evaluate is None or server_round in record.history.perplexities:
                return None
            metrics = evaluate(server_round, arrays)
            record.evaluated(server_round, metrics)
            return metrics

        strategy.observer = record.trained
        strategy.evaluation_observer = record.evaluated_by_clients
        try:
            strategy.start(
                grid,
                ArrayRecord(to_state_dict(initial)),
                num_rounds=config.app.num_server_rounds,
                timeout=config.app.round_timeout_seconds,
                evaluate_fn=evaluate_round,
                resume=resumed.state if resumed else None,
            )
        except HSplitError as error:
            error.args = (f"{error}\n{record.left()}",)
            raise
        finally:
            record.summarise()
    seconds = time.perf_counter() - started
    log(INFO, "%s in %.1f s; %s", record.quality(), seconds, record.result())


def _folder_of(config: RunConfig, resumed: PastRun | None) -> RunFolder:
    """A new folder, or that of the run that goes on."""
    if resumed is not None:
        return RunFolder(resumed.folder, goes_on_after=resumed.state.server_round)
    name = config.app.run_name or time.strftime("%Y%m%d-%H%M%S")
    return RunFolder(Path(config.app.output_dir) / name)
