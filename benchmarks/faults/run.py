"""A small run of real processes that is disturbed, kept up by what starts dead ones again."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from transformers import LlamaConfig

from benchmarks.faults.catalogue import Channel, Fault, How, Party
from benchmarks.faults.link import FaultyLink
from benchmarks.faults.parties import (
    FORKSERVER,
    OPERATOR_TOKEN,
    Setup,
    run_server,
    run_worker,
)
from benchmarks.tools.split_pair import save_random_model
from hsplit_flower.adapters import LowRank
from hsplit_flower.cli.local_flower import free_port
from hsplit_flower.cli.make_certificates import made_certificates
from hsplit_flower.server.checkpoint import read_state
from hsplit_flower.settings import Worker

POLL_SECONDS: Final = 0.02
# A worker of which no number depends on who comes when.
REPEATABLE: Final[Mapping[str, Any]] = {"num_threads": 1, "max_sessions_per_pass": 1}
PROCESS_OF: Final = {
    Party.CLIENT: "client-0",
    Party.WORKER: "worker",
    Party.SERVER: "server",
    Party.SERVER_WITH_WORKER: "server",
}


def tiny_model(folder: Path) -> LlamaConfig:
    """Write a model of four small blocks."""
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=128,
        max_position_embeddings=64,
    )
    save_random_model(config, folder, seed=0)
    return config


class DisturbedRun:
    """A worker, a link to it, a ServerApp and its clients; who dies is started again.

    Parameters
    ----------
    setup
        What its processes are told.
    worker
        The settings of the worker that runs alone; None where it runs in the ServerApp.
    link
        To that worker.
    """

    def __init__(self, setup: Setup, worker: Worker | None, link: FaultyLink | None) -> None:
        self.setup = setup
        self._worker = worker
        self._link = link
        self._processes: dict[str, BaseProcess] = {}
        self._is_over = threading.Event()
        self._keeper = threading.Thread(target=self._keep_up, daemon=True)

    def start(self) -> None:
        """Start its processes, and start again whichever is killed."""
        self._keeper.start()

    def wait(self, timeout_seconds: float) -> None:
        """Wait for the end of the run.

        Raises
        ------
        TimeoutError
            If it does not end.
        RuntimeError
            If the ServerApp ended with an error.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._is_over.wait(POLL_SECONDS):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the run did not end in {timeout_seconds:g} s: {self._told()}")
            # Whose keeper ends well says so first, perhaps since it was last asked for.
            if not self._keeper.is_alive() and not self._is_over.is_set():
                raise RuntimeError(f"the ServerApp failed: {self._told()}")

    @property
    def is_over(self) -> bool:
        """Whether it has ended well."""
        return self._is_over.is_set()

    def process_ids(self) -> dict[str, int]:
        """Of all parties that have begun, by their names."""
        files = sorted(self.setup.folder.glob("*.pid"))
        return {file.stem: int(file.read_text(encoding="utf-8")) for file in files}

    def end_after_round(self) -> None:
        """Have it end before all its rounds are done."""
        self.setup.enough.touch()

    def stop(self) -> None:
        """End what is left of it."""
        self._is_over.set()
        if self._link is not None:
            self._link.mend()
        self._keeper.join()
        for process in self._processes.values():
            process.kill()
            process.join()

    def fail_at(self, fault: Fault, server_round: int) -> threading.Thread:
        """Have a fault happen in a round that is still to come; give the thread that sees to it."""
        self.setup.moments.await_(server_round, fault.place)
        thread = threading.Thread(target=self._disturb_at, args=(fault, server_round), daemon=True)
        thread.start()
        return thread

    def disturb(self, party: Party, how: How, seconds: float) -> None:
        """Do it now; returns when what lasts is over."""
        if party is Party.LINK:
            self._disturb_link(how, seconds)
            return
        with suppress(ProcessLookupError, FileNotFoundError):
            process = int(self.setup.process_file(PROCESS_OF[party]).read_text(encoding="utf-8"))
            os.kill(process, signal.SIGKILL if how is How.KILL else signal.SIGSTOP)
            if how is How.STOP:
                time.sleep(seconds)
                os.kill(process, signal.SIGCONT)

    def reports(self) -> list[Mapping[str, Any]]:
        """What the ServerApp has told of each round, the last time that it did."""
        if not self.setup.reports.exists():
            return []
        lines = self.setup.reports.read_text(encoding="utf-8").splitlines()
        return list({row["server-round"]: row for row in map(json.loads, lines)}.values())

    def adapter(self) -> Mapping[str, LowRank]:
        """The global adapter that was written last."""
        return read_state(self.setup.state).method.updates

    def _disturb_at(self, fault: Fault, server_round: int) -> None:
        moments = self.setup.moments
        while not moments.is_reached(server_round, fault.place):
            if self._is_over.wait(POLL_SECONDS):
                return
        # What lasts must be met by what the run does next.
        lasting = fault.how is not How.KILL
        if lasting:
            threading.Timer(0.1, moments.release, (server_round, fault.place)).start()
        self.disturb(fault.party, fault.how, fault.seconds)
        moments.release(server_round, fault.place)

    def _disturb_link(self, how: How, seconds: float) -> None:
        assert self._link is not None, "a worker in the ServerApp has no link of its own"
        if how is How.SLOW:
            # Until the end: every piece is so late.
            self._link.slow(seconds)
        elif how is How.GARBLE:
            self._link.garble()
        else:
            (self._link.cut if how is How.CUT else self._link.hang)()
            time.sleep(seconds)
            self._link.mend()

    def _keep_up(self) -> None:
        while not self._is_over.is_set():
            server = self._processes.get("server")
            # Asked once: between two looks it may end well, and is not to begin anew then.
            ended = None if server is None else server.exitcode
            if ended == 0:
                self._is_over.set()
                return
            if ended not in (None, -signal.SIGKILL):
                return
            worker = self._processes.get("worker")
            # One that finds its port still taken ends, and is tried again.
            if self._worker is not None and (worker is None or worker.exitcode is not None):
                self._begin("worker", run_worker, (self.setup, self._worker))
            if server is None or ended is not None:
                self._begin("server", run_server, (self.setup,))
            time.sleep(POLL_SECONDS)

    def _begin(self, name: str, target: Any, args: tuple[Any, ...]) -> None:
        self._processes[name] = FORKSERVER.Process(target=target, args=args)
        self._processes[name].start()

    def _told(self) -> str:
        logs = sorted(self.setup.folder.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)


def clients_rounds_lost(reports: Iterable[Mapping[str, Any]]) -> int:
    """How often a client's part of a round was lost."""
    return sum(
        client["dropped"] is not None for report in reports for client in report["clients"].values()
    )


@contextmanager
def disturbed_run(
    folder: Path,
    channel: Channel = Channel.PLAIN,
    *,
    worker_runs_alone: bool = True,
    num_rounds: int = 3,
    num_steps: int = 3,
    num_clients: int = 2,
    step_seconds: float = 0.0,
) -> Iterator[DisturbedRun]:
    """A run that is ready to start, in a folder of its own; all of it is ended afterwards."""
    folder.mkdir(parents=True)
    vocabulary = tiny_model(folder / "model").vocab_size
    own, shown, node = _secured(folder / "certificates", channel)
    link, alone = None, None
    if worker_runs_alone:
        port = free_port()
        alone = Worker(port=port, operator_token=OPERATOR_TOKEN, **REPEATABLE, **own)
        link = FaultyLink(port)
        known = {"address": link.address, "operator_token": OPERATOR_TOKEN, **shown}
    else:
        known = own
    setup = Setup(
        folder=folder,
        model=str(folder / "model"),
        vocabulary=vocabulary,
        worker=Worker(**REPEATABLE, **known),
        node_config=node,
        num_rounds=num_rounds,
        num_steps=num_steps,
        num_clients=num_clients,
        step_seconds=step_seconds,
    )
    run = DisturbedRun(setup, alone, link)
    try:
        yield run
    finally:
        run.stop()
        if link is not None:
            link.close()


def _secured(
    folder: Path, channel: Channel
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """What the worker, the ServerApp and the clients are given of certificates."""
    if channel is Channel.PLAIN:
        return {}, {}, {}
    made_certificates(folder, (), ("client", "serverapp"), num_days=1)
    ca = {"ssl_ca_certfile": str(folder / "ca.pem")}

    def pair(name: str) -> dict[str, str]:
        return {"ssl_certfile": f"{folder}/{name}.pem", "ssl_keyfile": f"{folder}/{name}.key"}

    own = {**ca, **pair("server")}
    if channel is Channel.TLS:
        return own, ca, {}
    node = {name.replace("_", "-"): path for name, path in pair("client").items()}
    return {**own, "mutual_tls": True}, {**ca, **pair("serverapp")}, node
