"""Where the split worker runs, what it listens on, and what it allows."""

from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

from ..types import HIGHEST_PORT
from .fields import setting
from .group import Settings

# More threads or processes than these are a mistake.
MOST_THREADS, MOST_WORKERS = 1024, 1024
OPERATOR_TOKEN_VARIABLE = "HSPLIT_OPERATOR_TOKEN"
"""Of the environment, where an operator's token is handed to a process."""
MAX_SESSIONS = 2**16
"""More than a run has clients: the operator alone opens sessions, as many as its round needs."""


class Worker(Settings):
    """One split worker, or several on Ray; with an address it runs already, on its own."""

    placement: Literal["here", "ray"] = setting(
        "here",
        "Where the worker is started: here, in the ServerApp's process, or as several processes on "
        "ray, among which clients are spread.",
    )
    num_workers: int = setting(
        0,
        "How many processes on Ray; 0 is one for each GPU, and one where there is none.",
        ge=0,
        le=MOST_WORKERS,
    )
    ray_address: str = setting(
        "",
        "Of the Ray cluster that they run on, in a deployment; empty is that of the environment "
        "variable RAY_ADDRESS, or a Ray that is started for the run. In a simulation they run on "
        "the one that simulates the clients.",
    )
    address: str = setting(
        "",
        "HOST:PORT of a worker that runs on its own (hsplit worker), as the server and the clients "
        "reach it; its operator token is read from the environment variable "
        f"{OPERATOR_TOKEN_VARIABLE}, which the SuperLink must have been started with. Empty starts "
        "one for the run.",
        wanted="HOST:PORT or nothing",
        pattern=r"^([^\s/]+:\d{1,5})?$",
    )
    operator_token: str = setting(
        "", "The secret of who may open sessions on a worker of its own.", secret=True
    )
    host: str = setting(
        "127.0.0.1", "Address that the worker listens on; 0.0.0.0 for all of its machine's."
    )
    advertised_host: str = setting(
        "", "Host that is told to clients; empty is the one that is listened on."
    )
    port: int = setting(
        0,
        "Port to listen on, the first of several workers'; 0 for a free one.",
        wanted=f"a port from 0 to {HIGHEST_PORT}",
        ge=0,
        le=HIGHEST_PORT,
    )
    device: str = setting(
        "auto", "Where the worker computes: cpu, cuda, cuda:1, or auto for the GPU if there is one."
    )
    num_threads: int = setting(
        0,
        "Threads that the worker computes with; 0 leaves torch's own choice.",
        ge=0,
        le=MOST_THREADS,
    )
    checkpointing: bool = setting(
        False,
        "Whether the worker keeps nothing but its blocks' inputs for the backward pass, which runs "
        "each of them once more.",
    )
    max_sessions: int = setting(
        MAX_SESSIONS, "Most clients that are served at a time; a round with more is refused.", ge=1
    )
    session_timeout_seconds: float = setting(
        600.0,
        "Silence after which a client that has begun is dropped from its round.",
        unit="seconds",
        gt=0,
    )
    num_cpus: float = setting(
        0.0,
        "What a worker asks of Ray's CPUs; none by default, as simulated clients may hold all.",
        ge=0,
    )
    placing_timeout_seconds: float = setting(
        180.0, "How long Ray may take to find places and start processes.", unit="seconds", gt=0
    )
    loading_timeout_seconds: float = setting(
        1800.0, "How long workers on Ray may take to load their half.", unit="seconds", gt=0
    )
    num_restarts: int = setting(3, "How often each worker on Ray is started again.", ge=0)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if problems := list(self._contradictions()):
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> "list[str]":
        is_on_ray = self.placement == "ray"
        problems = []
        if is_on_ray and self.address:
            problems.append(
                f'placement = "ray" and address = {self.address!r}: workers are started on Ray, or '
                "one that runs already is used; leave one of the two out"
            )
        highest = self.port + max(self.num_workers - 1, 0)
        if self.port and highest > HIGHEST_PORT:
            problems.append(
                f"port = {self.port}: {self.num_workers} workers have the ports from there on, to "
                f"{highest}, and {HIGHEST_PORT} is the highest"
            )
        problems += [
            f'{name} = {value!r}: means something with placement = "ray" only'
            for name, value in (
                ("num_workers", self.num_workers),
                ("ray_address", self.ray_address),
            )
            if value and not is_on_ray
        ]
        return problems
