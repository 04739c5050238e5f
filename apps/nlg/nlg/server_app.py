"""The server: the strategy, the dev set, and the folder that the run leaves."""

import time
from logging import INFO
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from hsplit_flower.adapters import import_adapter, to_state_dict
from hsplit_flower.reports import RunFolder
from nlg.assemble import evaluation_of, strategy_of
from nlg.run_config import RunConfig
from nlg.run_record import RunRecord

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Fine-tune, and leave settings, metrics, plan, state and adapter in the run's folder.

    A run of which no round was completed ends with an error, so that Flower counts it as failed.
    """
    started = time.perf_counter()
    config = RunConfig.from_run_config(context.run_config)
    strategy = strategy_of(config)
    evaluate = evaluation_of(config)
    initial = import_adapter(config.app.adapter) if config.app.adapter else {}
    name = config.app.run_name or time.strftime("%Y%m%d-%H%M%S")
    with RunFolder(Path(config.app.output_dir) / name) as folder:
        record = RunRecord(folder, config, strategy)

        def evaluate_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            metrics = evaluate(server_round, arrays) if evaluate else None
            if metrics is not None:
                record.evaluated(server_round, metrics)
            return metrics

        strategy.observer = record.trained
        strategy.start(
            grid,
            ArrayRecord(to_state_dict(initial)),
            num_rounds=config.app.num_server_rounds,
            timeout=config.app.round_timeout_seconds,
            evaluate_fn=evaluate_round,
        )
        outcome = record.ended()
    seconds = time.perf_counter() - started
    result = "adapter" if strategy.method.has_adapters else "model"
    log(INFO, "%s in %.1f s; %s: %s", outcome, seconds, result, folder.path.resolve() / result)
