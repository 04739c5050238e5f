"""An app's server and clients in this process, without Ray and without a SuperLink."""

import importlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict

from benchmarks.tools.threads import ThreadGrid

from .flower_app import TINY

NUM_CLIENTS = 2
FAILURE = "the power is out"


def run_here(
    settings: Mapping[str, Any],
    output: Path,
    changed: Mapping[str, Any],
    *,
    failing_rounds: Collection[int] = (),
    num_clients: int = NUM_CLIENTS,
    app: str = "nlg",
    own: Mapping[int, Mapping[str, str]] | None = None,
    change_reply: Callable[[Message, Context, int], None] = lambda reply, context, number: None,
) -> Path:
    """Run the app with some clients, and give the run's folder.

    In some rounds clients fail while they train; ``change_reply`` may do to a training's reply what
    it likes, told whose it is and of which round. ``own`` is what node configs say beside a place,
    by partition.
    """
    clients = importlib.import_module(f"{app}.client_app").app
    server = importlib.import_module(f"{app}.server_app").app

    config = {
        **settings,
        **TINY,
        "output-dir": str(output),
        "evaluation-examples": 4,
        "local-steps": 1,
        **changed,
    }

    def answer(message: Message, context: Context) -> Message:
        context.run_config = config
        told = message.content.config_records.get("config", {})
        if message.metadata.message_type == "train" and told["server-round"] in failing_rounds:
            raise RuntimeError(FAILURE)
        reply = clients(message, context)
        if message.metadata.message_type == "train":
            change_reply(reply, context, int(told["server-round"]))
        return reply

    nodes = {
        at + 1: {"partition-id": at, "num-partitions": num_clients, **(own or {}).get(at, {})}
        for at in range(num_clients)
    }
    # One thread: transformers cannot load two models at a time in one process.
    with ThreadGrid(answer, nodes, num_threads=1) as grid:  # type: ignore[arg-type]
        context = Context(
            run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config
        )
        server(grid, context)
    return output / str(config["run-name"])


@contextmanager
def flowers_log() -> Iterator[list[str]]:
    """What Flower's logger is told meanwhile."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("flwr"), Keep()
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
