"""The server: the dev set, and a run of the library."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from hsplit_flower.runs import run_rounds
from hsplit_flower.server.flower_log import errors_in_words
from nlg.assemble import evaluation_of
from nlg.run_config import RunConfig

app = ServerApp()


@app.main()
@errors_in_words()
def main(grid: Grid, context: Context) -> None:
    """Fine-tune; a run of which no round was completed ends with an error."""
    config = RunConfig.from_run_config(context.run_config)
    run_rounds(grid, config, evaluation_of(config))
