"""The server: puts together what the clients trained, and evaluates it."""

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from federated_lora import task
from hsplit_flower import NoiseFreeLoRA

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Fine-tune the adapter, and print its perplexity after each round."""
    config = context.run_config
    model = task.get_model(config)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        set_peft_model_state_dict(model, arrays.to_torch_state_dict())
        found = task.perplexity(model, config)
        print(f"after round {server_round}: perplexity {found:.4f}", flush=True)
        return MetricRecord({"perplexity": found})

    strategy = NoiseFreeLoRA(fraction_evaluate=0.0, peft_config=model.peft_config["default"])
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(get_peft_model_state_dict(model)),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=evaluate,
    )
