"""The server after the change: runs the split worker, plans, and keeps the adapter."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from hsplit_flower import HSplitLoRA, Planning, Sampling, Training, export_adapter

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Fine-tune, and leave an adapter that PEFT reads."""
    cfg = context.run_config
    strategy = HSplitLoRA(
        cfg["model"],
        Training(
            learning_rate=cfg["learning-rate"],
            lora_alpha=64.0,
            batch_size=cfg["batch-size"],
            sequence_length=cfg["seq-length"],
        ),
        planning=Planning(max_rank=32),
        sampling=Sampling(fraction_evaluate=0.0),
    )
    strategy.start(grid, num_rounds=cfg["num-server-rounds"])
    is_transposed = strategy.architecture.is_transposed
    updates = strategy.adapter.updates
    folder = export_adapter(
        updates, cfg["output"], base_model=cfg["model"], is_transposed=is_transposed
    )
    print(f"adapter: {folder.resolve()}", flush=True)
