"""A Flower SuperLink of our own for the length of a run: nothing of it stays afterwards."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..errors import ConfigError

CONNECTION = "here"
# In the environment of what is started for one run, and of nothing else.
MARK = "HSPLIT_STARTED_FOR"


@dataclass(frozen=True, kw_only=True)
class LocalFlower:
    """A running SuperLink: its home folder, its address, and the environment to talk to it in."""

    home: Path
    address: str
    environment: dict[str, str]

    def command(self, app: str | Path, options: Sequence[str] = ()) -> list[str]:
        """The ``flwr run`` command that sends an app here and shows its log."""
        return [script("flwr"), "run", str(app), CONNECTION, "--stream", *options]

    def failure(self) -> str | None:
        """Why the newest run failed, None if it did not: ``flwr run`` itself ends with 0 always."""
        listed = subprocess.run(
            [script("flwr"), "list", CONNECTION, "--format", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        runs = json.loads(listed.stdout).get("runs", [])
        newest = max(runs, key=lambda run: str(run["pending-at"]), default=None)
        if newest is None:
            return "no run was started"
        is_completed = newest["status"] == "finished:completed"
        return None if is_completed else f"{newest['status']}: {newest.get('status-details', '')}"


@contextmanager
def local_superlink(home: Path, *, simulation: bool) -> Iterator[LocalFlower]:
    """Start a SuperLink in a home folder of its own and end all that it started afterwards.

    Parameters
    ----------
    home
        Becomes ``FLWR_HOME``; made if absent.
    simulation
        Whether it simulates its nodes; otherwise SuperNodes connect to its address.

    Raises
    ------
    ConfigError
        If it does not come up; its log is named.
    """
    home.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{_free_port()}"
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "{address}"\ninsecure = true\n',
        encoding="utf-8",
    )
    environment = flower_environment(home)
    host, port = address.split(":")
    command = [script("flower-superlink"), "--insecure", "--host", host, "--port", port]
    if simulation:
        command.append("--simulation")
    with background(command, environment, home / "superlink.log") as process:
        _wait_for(address, process, home / "superlink.log")
        yield LocalFlower(home=home, address=address, environment=environment)


def flower_environment(home: Path) -> dict[str, str]:
    """The environment that Flower's programs run in, with its home there."""
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        # What the app needs is installed here already. Flower would make each run an environment
        # from a package index, with a Ray whose every module is compiled anew.
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Clients that lease their part of a card ask Ray for none; they must see the cards all the
        # same. Ray does so by itself some day, and says until then that it does not yet.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def simulated_clients(number: int) -> list[str]:
    """The options of ``flwr run`` for so many simulated clients, a core each.

    Where there is no card Ray has a virtual one, so that clients can lease parts of it.
    """
    import torch

    federation = f"num-supernodes={number} client-resources-num-cpus=1"
    if not torch.cuda.is_available():
        federation += " init-args-num-gpus=1"
    return ["--federation-config", federation]


def script(name: str) -> str:
    """A program that is installed beside this interpreter."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise ConfigError(f"{name} is not installed beside {sys.executable}: install flwr there")
    return str(path)


@contextmanager
def background(
    command: Sequence[str], environment: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program in a process group of its own; end all that it started afterwards."""
    mark = uuid.uuid4().hex
    marked = {**environment, MARK: mark}
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, env=marked, stdout=file, stderr=file, start_new_session=True
        )
        try:
            yield process
        finally:
            _end_all(process, mark)


def _end_all(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """End a program, its group, what it has started in groups of their own, and their orphans."""
    started = _descendants(process.pid)
    for sign, patience_seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_seconds)
            break
    # What the program started may have outlived it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # A simulation that was interrupted is not in the group, nor is its Ray.
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for survivor in started:
            with suppress(psutil.NoSuchProcess):
                end(survivor)
        _, started = psutil.wait_procs([*started, *_marked(mark)], timeout=5.0)


def _marked(mark: str) -> list[psutil.Process]:
    """Programs whose parents are gone, as Ray's agents are if it was starting."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def _descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
            return
        time.sleep(0.1)
    raise ConfigError(f"flower-superlink did not come up on {address}; its log is {log}")
