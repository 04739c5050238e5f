"""A new user's shell: an environment of its own, in which a page's commands are typed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from hsplit_flower.cli.local_flower import flower_environment, free_port


@contextmanager
def new_user(home: Path) -> Iterator[dict[str, str]]:
    """The environment of one; all that was started in it is ended.

    The SuperLink that ``flwr run`` starts by itself has two ports for all users of a machine; this
    one's has two of its own.
    """
    ports = {
        name: str(free_port())
        for name in ("FLWR_LOCAL_SUPERLINK_HTTP_API_PORT", "FLWR_LOCAL_CONTROL_API_PORT")
    }
    # A narrow terminal would break the tables of `flwr list`.
    own = {**flower_environment(home), **ports, "COLUMNS": "200"}
    try:
        yield own
    finally:
        for end in (psutil.Process.terminate, psutil.Process.kill):
            left = started_in(own)
            for process in left:
                end(process)
            psutil.wait_procs(left, timeout=10.0)


def started_in(environment: dict[str, str]) -> list[psutil.Process]:
    """All that was started there and still is."""
    home = environment["FLWR_HOME"]
    return [
        process
        for process in psutil.process_iter(["environ", "cmdline"])
        if (process.info["environ"] or {}).get("FLWR_HOME") == home
    ]


def typed(script: str, folder: Path, environment: dict[str, str], *, lines: str = "") -> str:
    """What comes of commands that are typed in a folder, made if absent; these lines follow them.

    The test fails where one of them does.
    """
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        input=lines,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout
