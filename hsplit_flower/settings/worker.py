"""Where the split worker runs, what it listens on, and what it allows."""

from typing import Literal

from ..types import HIGHEST_PORT, LONGEST_ROUND_SECONDS
from .certificates import Certificates
from .fields import setting
from .hosts import ADDRESS, host_of, is_loopback

# More threads or processes than these are a mistake.
MOST_THREADS, MOST_WORKERS = 1024, 1024
OPERATOR_TOKEN_VARIABLE = "HSPLIT_OPERATOR_TOKEN"
"""Of the environment, where an operator's token is handed to a process."""
OPERATOR_TOKEN_FILE_VARIABLE = f"{OPERATOR_TOKEN_VARIABLE}_FILE"
"""Of the environment, where a file is named that holds the token."""
SHORTEST_TOKEN = 16
"""Characters of an operator's token; a shorter one could be guessed."""
MAX_SESSIONS = 2**16
"""More than a run has clients: only holders of a token open sessions."""


class Worker(Certificates):
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
        "reach it. Empty starts one for the run.",
        wanted=f"HOST:PORT, with a port up to {HIGHEST_PORT}, or nothing",
        pattern=f"^({ADDRESS})?$",
    )
    operator_token_file: str = setting(
        "",
        "File beside the ServerApp that holds the operator's token of the worker at that address; "
        "it is read when a run begins. Empty takes the token from the ServerApp's environment: "
        f"the file that {OPERATOR_TOKEN_FILE_VARIABLE} names, or {OPERATOR_TOKEN_VARIABLE} itself.",
    )
    operator_token: str = setting(
        "",
        "The secret of who may open sessions on a worker of its own.",
        secret=True,
        wanted=f"a secret of {SHORTEST_TOKEN} characters or more in one line of ASCII "
        "(hsplit worker --operator-token-file FILE makes one)",
        pattern=rf"^([ -~]{{{SHORTEST_TOKEN},}})?$",
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
    max_sessions_per_pass: int = setting(
        0,
        "Most clients whose steps are computed in one pass where they come together; 0 is as many "
        "as there is room for. With 1 no number depends on who comes when, so that a run that is "
        "done again, or resumed, ends with the same adapter; many clients take longer.",
        ge=0,
    )
    session_timeout_seconds: float = setting(
        600.0,
        "Silence after which a client that has begun is dropped from its round.",
        unit="seconds",
        gt=0,
        le=LONGEST_ROUND_SECONDS,
    )
    num_cpus: float = setting(
        0.0,
        "What a worker asks of Ray's CPUs; none by default, as simulated clients may hold all.",
        ge=0,
    )
    placing_timeout_seconds: float = setting(
        180.0,
        "How long Ray may take to find places and start processes.",
        unit="seconds",
        gt=0,
        le=LONGEST_ROUND_SECONDS,
    )
    loading_timeout_seconds: float = setting(
        1800.0,
        "How long workers on Ray may take to load their half.",
        unit="seconds",
        gt=0,
        le=LONGEST_ROUND_SECONDS,
    )
    num_restarts: int = setting(3, "How often each worker on Ray is started again.", ge=0)

    mutual_tls: bool = setting(
        False,
        "Whether the worker serves only who shows a certificate of the authority in "
        "ssl-ca-certfile, as well as a token.",
    )
    insecure: bool = setting(
        False,
        "Whether a worker that others can reach may do without TLS: everybody on the way reads "
        "hidden states, labels and tokens then.",
    )

    @property
    def is_secured(self) -> bool:
        """Whether it is talked to over TLS; one that runs elsewhere is unless `insecure`."""
        if not self.address:
            return bool(self.ssl_certfile)
        is_ours_alone = self.insecure or is_loopback(host_of(self.address))
        return bool(self.ssl_certfile or self.ssl_ca_certfile) or not is_ours_alone

    def _contradictions(self) -> "list[str]":
        problems = [*super()._contradictions(), *self._channel_problems()]
        is_on_ray = self.placement == "ray"
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

    def _channel_problems(self) -> "list[str]":
        """What of certificates and addresses does not go together."""
        has_files = bool(self.ssl_certfile or self.ssl_ca_certfile)
        if self.insecure and has_files:
            return ["insecure = true and certificates are given: leave one of the two out"]
        if self.address or self.insecure:
            return []
        problems = []
        if self.ssl_ca_certfile and not self.ssl_certfile:
            problems.append(
                f"ssl_ca_certfile = {self.ssl_ca_certfile!r}: the worker's own ssl_certfile and "
                "ssl_keyfile are wanted with it"
            )
        if self.mutual_tls and not self.ssl_ca_certfile:
            problems.append(
                "mutual_tls = true: the authority that callers' certificates must be of is wanted "
                "in ssl_ca_certfile"
            )
        for name, host in (("host", self.host), ("advertised_host", self.advertised_host)):
            is_for_others = not is_loopback(host) and (host or name == "host")
            if is_for_others and not has_files:
                problems.append(
                    f"{name} = {host!r}: a worker that others can reach wants TLS. Give "
                    "ssl_certfile and ssl_keyfile (the SuperLink's own will do, hsplit "
                    "certificates makes some for a trial); or insecure = true where everybody on "
                    "the network may read along"
                )
                break
        return problems
