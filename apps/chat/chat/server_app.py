"""The server: what it evaluates on, and a run of the library."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from chat import task
from chat.run_config import RunConfig
from hsplit_flower.runs import run_rounds
from hsplit_flower.runs.federation import Evaluation
from hsplit_flower.server import ServerEvaluation, is_deployed
from hsplit_flower.server.flower_log import errors_in_words

app = ServerApp()


@app.main()
@errors_in_words()
def main(grid: Grid, context: Context) -> None:
    """Fine-tune; a run of which no round was completed ends with an error."""
    config = RunConfig.from_run_config(context.run_config)
    if not is_deployed(grid):
        config = config.with_divided_set()
    run_rounds(grid, config, evaluation_of(config, is_deployed=is_deployed(grid)))


def evaluation_of(config: RunConfig, *, is_deployed: bool) -> Evaluation | None:
    """The server's evaluation on held-out rows, if it is wanted and there are any."""
    has_rows = bool(config.app.held_out) or not is_deployed
    if not (config.app.server_evaluation and has_rows):
        return None
    task.encoded_for_server(config)  # says at once what is wrong with it
    return ServerEvaluation(config.run.model, lambda: task.server_batches(config))
