"""The server: the strategy, the dev set, and the folder that the run leaves."""

import time
from dataclasses import asdict
from logging import INFO
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from hsplit_flower.adapters import import_adapter, to_state_dict
from hsplit_flower.reports import RunFolder
from hsplit_flower.server import RoundReport
from nlg.assemble import evaluation_of, strategy_of
from nlg.run_config import RunConfig

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Fine-tune, and leave settings, metrics, plan and adapter in the run's folder."""
    started = time.perf_counter()
    config = RunConfig.from_run_config(context.run_config)
    strategy = strategy_of(config)
    evaluate = evaluation_of(config)
    initial = import_adapter(config.app.adapter) if config.app.adapter else {}
    name = config.app.run_name or time.strftime("%Y%m%d-%H%M%S")
    perplexities: list[float] = []

    def observe(report: RoundReport) -> None:
        folder.add_metrics(report.to_dict())
        folder.write_plan({str(node): asdict(part.plan) for node, part in report.clients.items()})
        if report.completed:
            folder.write_adapter(
                strategy.adapter.updates,
                base_model=config.run.model.name,
                is_transposed=strategy.architecture.is_transposed,
            )

    def evaluate_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        metrics = evaluate(server_round, arrays) if evaluate else None
        if metrics is not None:
            perplexities.append(float(metrics["perplexity"]))
            folder.add_metrics({"server-round": server_round, **metrics})
        return metrics

    strategy.observer = observe
    with RunFolder(Path(config.app.output_dir) / name) as folder:
        folder.write_config({**config.app.shown(), **strategy.settings.shown()})
        strategy.start(
            grid,
            ArrayRecord(to_state_dict(initial)),
            num_rounds=config.app.num_server_rounds,
            timeout=config.app.round_timeout_seconds,
            evaluate_fn=evaluate_round,
        )
    quality = (
        f"perplexity {perplexities[0]:.4f} -> {perplexities[-1]:.4f}"
        if perplexities
        else "perplexity not measured"
    )
    seconds = time.perf_counter() - started
    log(INFO, "%s in %.1f s; adapter: %s", quality, seconds, folder.path.resolve() / "adapter")
