"""A run is shown while it goes, and run again if, and only if, Ray was late."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray._private.node

from hsplit_flower.cli.local_flower import local_superlink
from hsplit_flower.cli.simulation_run import (
    RAY_IS_LATE,
    TRIED_AGAIN,
    FinishedRun,
    ray_was_late,
    second_try,
    streamed,
)

LATE_LOG = f"""ERROR :  An exception occured!! {RAY_IS_LATE}. This could happen because some of the
raylet failed to startup or the GCS has become overloaded.
RuntimeError: Simulation Runtime crashed.
"""
OTHER_LOG = "RuntimeError: Simulation Runtime crashed.\n"
LATE = FinishedRun(log=LATE_LOG, failure="finished:failed")
OTHER = FinishedRun(log=OTHER_LOG, failure="finished:failed")
GOOD = FinishedRun(log="perplexity 9 -> 2\n", failure=None)


def test_what_is_looked_for_is_what_ray_says():
    source = Path(str(ray._private.node.__file__)).read_text(encoding="utf-8")
    assert ray_was_late(source)
    assert not ray_was_late(OTHER_LOG)


@pytest.mark.parametrize(
    ("runs", "num_runs", "failure"),
    [
        ([LATE, GOOD], 2, None),
        ([LATE, OTHER], 2, "finished:failed"),
        ([LATE, LATE, GOOD], 2, "finished:failed"),
        ([OTHER, GOOD], 1, "finished:failed"),
        ([GOOD, OTHER], 1, None),
        # Who came to an end in spite of it need not be run again.
        ([FinishedRun(log=LATE_LOG, failure=None), OTHER], 1, None),
    ],
)
def test_a_late_ray_is_given_one_more_try(
    runs: list[FinishedRun], num_runs: int, failure: str | None
):
    left, shown = list(runs), io.StringIO()
    finished = second_try(lambda: left.pop(0), shown)
    assert len(runs) - len(left) == num_runs
    assert finished.failure == failure
    assert shown.getvalue() == (f"{TRIED_AGAIN}\n" if num_runs == 2 else "")
    for run in runs[:num_runs]:
        assert run.log in finished.log


SPEAKS = """
import sys, time
print("out", flush=True)
print("err", file=sys.stderr)
while not sys.argv[1:]:
    time.sleep(0.1)
sys.exit(3)
"""


def test_all_that_a_program_says_is_shown_and_kept():
    shown = io.StringIO()
    command = [sys.executable, "-c", SPEAKS, "ends"]
    assert streamed(command, dict(os.environ), shown) == ("out\nerr\n", 3)
    assert shown.getvalue() == "out\nerr\n"
    assert streamed(command, dict(os.environ), None) == ("out\nerr\n", 3)


def test_it_is_shown_while_it_runs_and_ended_with_who_looks_at_it():
    looks = (
        "import os, sys; from hsplit_flower.cli.simulation_run import streamed\n"
        "streamed([sys.executable, '-c', sys.argv[1]], dict(os.environ), sys.stdout)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", looks, SPEAKS],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        # Where the tests run in the background, SIGINT is ignored and would be here, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "out\n"
        (speaker,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        assert not speaker.is_running()
    finally:
        process.kill()
        process.communicate()


PROJECT = """
[project]
name = "late"
version = "1.0.0"
[tool.flwr.app]
publisher = "us"
[tool.flwr.app.components]
serverapp = "late.server_app:app"
clientapp = "late.client_app:app"
[tool.flwr.app.config]
scratch = ""
"""


def app_of(folder: Path, server_app: str, client_app: str) -> Path:
    """A Flower app of these two files, whose scratch folder is that folder."""
    package = folder / "app" / "late"
    package.mkdir(parents=True)
    for name, text in {"__init__": "", "server_app": server_app, "client_app": client_app}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    project = PROJECT.replace('scratch = ""', f'scratch = "{folder}"')
    (package.parent / "pyproject.toml").write_text(project, encoding="utf-8")
    return package.parent


FAILS_ONCE = f"""
from pathlib import Path
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    begun = Path(context.run_config["scratch"]) / "begun"
    if not begun.exists():
        begun.touch()
        raise Exception({RAY_IS_LATE!r})
    print("came to its end")
"""
NO_CLIENT = """
from flwr.clientapp import ClientApp

app = ClientApp()
"""


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_real_run_is_tried_again(tmp_path: Path):
    """Without Ray: a SuperLink runs a ServerApp that fails in Ray's words once."""
    app, shown = app_of(tmp_path, FAILS_ONCE, NO_CLIENT), io.StringIO()
    with local_superlink(tmp_path / "flwr", simulation=False) as flower:
        finished = flower.run(app, show=shown)
        assert finished.failure is None, finished.log
        assert finished.log == shown.getvalue()
        assert [finished.log.count(TRIED_AGAIN), finished.log.count("came to its end")] == [1, 1]
        refused = flower.run(tmp_path / "nowhere")
        assert refused.failure is not None and "exit status" in refused.failure


ASKS = """
import time
from pathlib import Path
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import ServerApp
from hsplit_flower.reports import RunFolder, ServerEvaluationLine

app = ServerApp()

@app.main()
def main(grid, context):
    with RunFolder(Path(context.run_config["scratch"]) / "run") as folder:
        folder.add_metrics(ServerEvaluationLine(server_round=0, loss=1.0, perplexity=2.7))
        while not (nodes := list(grid.get_node_ids())):
            time.sleep(0.2)
        kind = MessageType.QUERY
        asked = [Message(RecordDict(), message_type=kind, dst_node_id=n) for n in nodes]
        print(f"{len(list(grid.send_and_receive(asked)))} answers")
"""
# Flower loads the ClientApp before it starts Ray, in the same process: there Ray finds no node.
ANSWERS = """
from pathlib import Path
import ray._private.services
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

def no_node(*arguments, **options):
    raise RuntimeError("not there yet")

begun = Path("FOLDER") / "begun"
if not begun.exists():
    begun.touch()
    ray._private.services.get_node = no_node

app = ClientApp()

@app.query()
def query(message, context):
    return Message(RecordDict(), reply_to=message)
"""


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_simulation_whose_ray_was_late_ends_and_is_tried_again(tmp_path: Path):
    """Ray waits in vain for its own time, and Flower's server for clients that never come.

    That server has begun the folder of the run, whose name the second try has, too.
    """
    app = app_of(tmp_path, ASKS, ANSWERS.replace("FOLDER", str(tmp_path)))
    options = ["--federation-config", "num-supernodes=2 client-resources-num-cpus=1"]
    with local_superlink(tmp_path / "flwr", simulation=True) as flower:
        finished = flower.run(app, options)
    assert finished.failure is None, finished.log
    assert finished.log.count(TRIED_AGAIN) == 1
    assert "2 answers" in finished.log.partition(TRIED_AGAIN)[2]
