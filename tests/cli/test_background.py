"""What is started for a run is ended with it, whichever way the run ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from hsplit_flower.cli.background import background

# A program that starts another in a session of its own, as Flower starts a simulation.
STARTS_ANOTHER = """
import subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"],
                         start_new_session=True)
print(other.pid, flush=True)
time.sleep(120)
"""


def wait_for_number(file: Path) -> int:
    for _ in range(600):
        if text := file.read_text(encoding="utf-8").strip():
            return int(text)
        time.sleep(0.05)
    raise AssertionError("the program said nothing")


def is_running(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("ends_by", ["itself", "an exception"])
def test_a_program_ends_with_all_that_it_started(tmp_path: Path, ends_by: str) -> None:
    log = tmp_path / "log"
    pids = []
    with suppress(KeyboardInterrupt):
        command = [sys.executable, "-c", STARTS_ANOTHER]
        with background(command, dict(os.environ), log) as process:
            pids = [process.pid, wait_for_number(log)]
            assert all(map(is_running, pids))
            if ends_by == "an exception":
                raise KeyboardInterrupt
    assert len(pids) == 2
    assert not any(map(is_running, pids))


# The same, and gone itself before it is told to end.
LEAVES_AN_ORPHAN = STARTS_ANOTHER.replace("time.sleep(120)\n", "sys.exit()\n")


def test_an_orphan_ends_too_and_nobody_else(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    log = tmp_path / "log"
    try:
        command = [sys.executable, "-c", LEAVES_AN_ORPHAN]
        with background(command, dict(os.environ), log) as process:
            orphan = wait_for_number(log)
            process.wait(30)
            assert is_running(orphan)
        assert not is_running(orphan)
        assert is_running(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


WAITING = """
import sys
from pathlib import Path
from hsplit_flower.cli import app, main
from hsplit_flower.cli.background import background

@app.command("wait")
def wait():
    with background(sys.argv[1:], {}, Path("log")):
        print("up", flush=True)
        sys.stdin.read()

sys.exit(main(["wait"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_told_to_end_ends_what_it_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    another = [sys.executable, "-c", STARTS_ANOTHER]
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *another],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT is ignored and would be here, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        pid = wait_for_number(tmp_path / "log")
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
        assert not is_running(pid)
    finally:
        process.kill()
        process.communicate()
