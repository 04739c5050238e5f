"""A Flower SuperLink of our own for the length of a run: nothing of it stays afterwards."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..errors import ConfigError
from ..settings import Certificates
from .background import background as background
from .simulation_run import FinishedRun, second_try, streamed

CONNECTION = "here"
PLAIN = Certificates()
LOG_NAME = "superlink.log"


@dataclass(frozen=True, kw_only=True)
class LocalFlower:
    """A running SuperLink: its home folder, its address, and the environment to talk to it in."""

    home: Path
    address: str
    environment: dict[str, str]

    @property
    def log(self) -> Path:
        """The file that the SuperLink writes its log to."""
        return self.home / LOG_NAME

    def run(
        self, app: str | Path, options: Sequence[str] = (), *, show: TextIO | None = None
    ) -> FinishedRun:
        """Run an app to its end, and once more if it failed because Ray was late.

        Parameters
        ----------
        app
            Its folder.
        options
            Of ``flwr run``, further ones.
        show
            Where its log is written while it grows; None keeps it for the result only.

        Returns
        -------
        FinishedRun
            Its log, and why it failed if it did.
        """
        return second_try(lambda: self._run_once(self.command(app, options), show), show)

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
        told = json.loads(listed.stdout)
        if not told["success"]:
            return f"the SuperLink does not say what became of it: {told.get('error-message', '')}"
        runs = told.get("runs", [])
        newest = max(runs, key=lambda run: str(run["pending-at"]), default=None)
        if newest is None:
            return "no run was started"
        is_completed = newest["status"] == "finished:completed"
        return None if is_completed else f"{newest['status']}: {newest.get('status-details', '')}"

    def _run_once(self, command: Sequence[str], show: TextIO | None) -> FinishedRun:
        log, status = streamed(command, self.environment, show)
        refused = f"flwr run ended with exit status {status}" if status else None
        return FinishedRun(log=log, failure=refused or self.failure())


@contextmanager
def local_superlink(
    home: Path,
    *,
    simulation: bool,
    certificates: Certificates = PLAIN,
    options: Sequence[str] = (),
) -> Iterator[LocalFlower]:
    """Start a SuperLink in a home folder of its own and end all that it started afterwards.

    Parameters
    ----------
    home
        Becomes ``FLWR_HOME``; made if absent.
    simulation
        Whether it simulates its nodes; otherwise SuperNodes connect to its address.
    certificates
        What secures its API; by default nothing, on loopback.
    options
        Of ``flower-superlink``, further ones.

    Raises
    ------
    ConfigError
        If it does not come up; its log is named.
    """
    home.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    secured = [
        text
        for field in type(certificates).known()
        if (path := getattr(certificates, field.name))
        for text in (f"--{field.key}", path)
    ]
    trusts = (
        f'root-certificates = "{certificates.ssl_ca_certfile}"' if secured else "insecure = true"
    )
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "{address}"\n{trusts}\n',
        encoding="utf-8",
    )
    environment = flower_environment(home)
    host, port = address.split(":")
    command = [script("flower-superlink"), "--host", host, "--port", port]
    command += [*(secured or ["--insecure"]), *options]
    if simulation:
        command.append("--simulation")
    with background(command, environment, home / LOG_NAME) as process:
        _wait_for(address, process, home / LOG_NAME)
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


def free_port() -> int:
    """A port of this machine that nobody listens on."""
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
