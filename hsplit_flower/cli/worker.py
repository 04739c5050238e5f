"""``hsplit worker``: a split worker in a process of its own."""

import logging
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, SplitError
from ..settings import (
    OPERATOR_TOKEN_VARIABLE,
    Link,
    Model,
    Planning,
    Settings,
    Worker,
    setting,
)
from ..transport.freed_memory import keep_freed_memory
from ..transport.operator_token import checked_token, read_token
from ..types import LONGEST_ROUND_SECONDS
from .field_option import OtherDefault
from .model_offer import MODEL
from .options import Chosen, Offer, Options

if TYPE_CHECKING:
    from ..worker.hosting import HostedWorker

logger = logging.getLogger(__name__)


class OwnProcess(Settings):
    """What only a worker of its own is asked for: no run tells it."""

    lowest_cut: int = setting(
        Planning.default_of("min_cut"),
        "Number of the first block that is held, which is the shallowest cut that clients may "
        "have.",
        ge=1,
    )
    adapter: str = setting(
        "",
        "Folder of a PEFT adapter, or of a run, whose adapter is taken then: texts are written "
        "with it, until a run loads another one. Empty takes none.",
    )
    operator_token_file: str = setting(
        "",
        "File that holds the operator's token; made with a new token if there is none. Empty reads "
        f"the token from ${OPERATOR_TOKEN_VARIABLE}.",
    )
    writer_token_file: str = setting(
        "",
        "File that holds a token which opens sessions that write texts, and nothing else: for who "
        "uses what was learnt; made with a new token if there is none. Empty leaves that to the "
        "operator.",
    )
    drain_timeout_seconds: float = setting(
        30.0,
        "How long the steps that are under way have to finish when the worker is terminated.",
        unit="seconds",
        ge=0,
        le=LONGEST_ROUND_SECONDS,
    )


OPTIONS = Options(
    MODEL,
    Offer(
        group=Worker,
        fields=(
            "host",
            "port",
            "device",
            "num_threads",
            "checkpointing",
            "max_sessions",
            "max_sessions_per_pass",
            "session_timeout_seconds",
            "ssl_certfile",
            "ssl_keyfile",
            "ssl_ca_certfile",
            "mutual_tls",
            "insecure",
        ),
        names={
            "num_threads": ("--num-threads", "--threads"),
            "session_timeout_seconds": ("--session-timeout-seconds", "--session-timeout"),
        },
        defaults={
            "port": OtherDefault(value=8600, reason="a worker of its own must be found again")
        },
    ),
    Offer(group=Link, fields=("max_message_mb",)),
    Offer(group=OwnProcess),
)


def _writer_token(file: str, operator_token: str) -> str:
    """What opens sessions that write texts; empty for none."""
    token = token_in_file(Path(file), "--writer-token-file") if file else ""
    if token == operator_token:
        raise ConfigError(
            f"--writer-token-file is {file}, which holds the operator's token, and that opens "
            "everything: a token of its own is wanted; name a file that is not there, and one is "
            "made"
        )
    return token


@OPTIONS.command
def command(chosen: Chosen) -> None:
    """Run a split worker.

    Holds the upper blocks of a model and trains them for many clients, until it is interrupted or
    terminated. Where others than this machine can reach it, it wants certificates. The operator's
    token, which the ServerApp needs too, is read from $HSPLIT_OPERATOR_TOKEN or from a file.
    Terminated, it opens no more sessions, finishes the steps that are under way, and ends with 0.
    """
    # Before any thread begins: what this process has freed can be given back to the last page then.
    keep_freed_memory()
    alone = chosen[OwnProcess]
    worker = _hosted(chosen, alone)
    description = worker.describe()
    print(
        f"split worker of {description.model}: blocks {description.lowest_cut} to "
        f"{description.num_blocks - 1}, on {worker.address}"
        f"{' over TLS' if worker.trust.is_secured else ''}"
        f"{f', adapter {description.adapter}' if description.adapter else ''}",
        flush=True,
    )
    try:
        with terminable():
            worker.wait()
    except Terminated:
        logger.info("terminated: the steps that are under way are finished, no others are begun")
        if not worker.drain(alone.drain_timeout_seconds):
            logger.warning("steps were not finished within %g s", alone.drain_timeout_seconds)
    finally:
        worker.stop()


def _hosted(chosen: Chosen, alone: OwnProcess) -> "HostedWorker":
    """The worker, with its adapter if there is one; it serves already."""
    token = operator_token(Path(alone.operator_token_file) if alone.operator_token_file else None)
    # This brings torch, for which neither help nor a mistyped option need wait.
    from ..worker.hosting import host_worker
    from .adapter_source import read_updates

    updates = read_updates(alone.adapter)
    try:
        return host_worker(
            chosen[Model],
            chosen[Worker].replace(operator_token=token),
            lowest_cut=alone.lowest_cut,
            max_message_bytes=chosen[Link].max_message_bytes,
            writer_token=_writer_token(alone.writer_token_file, token),
            # That is for the run-config to say, with worker.address.
            tells_clients=False,
            updates=updates,
        )
    except SplitError as error:
        raise ConfigError(f"--lowest-cut is {alone.lowest_cut}: {error}") from error
    except ConfigError as error:
        raise ConfigError(OPTIONS.spoken(str(error))) from error


class Terminated(Exception):
    """Raised where the process is asked to end."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` at the first SIGTERM; another one does what it did before."""

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, before)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def operator_token(file: Path | None) -> str:
    """The operator's token: from the file, else from the environment.

    Raises
    ------
    ConfigError
        If there is neither, the file cannot be read or made, or the token is too short.
    """
    if file is None:
        token = os.environ.get(OPERATOR_TOKEN_VARIABLE, "")
        if not token:
            raise ConfigError(
                f"a worker needs its operator's token: set {OPERATOR_TOKEN_VARIABLE}, or give "
                "--operator-token-file"
            )
        return checked_token(token, f"${OPERATOR_TOKEN_VARIABLE}")
    return token_in_file(file, "--operator-token-file")


def token_in_file(file: Path, option: str) -> str:
    """The token of a file that an option names.

    One that does not exist is made, readable by its owner only.

    Raises
    ------
    ConfigError
        If it cannot be read or made, or the token is too short.
    """
    if not file.exists():
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                opened.write(secrets.token_urlsafe(32) + "\n")
        except OSError as error:
            raise ConfigError(
                f"{option} is {file}: a file that can be made is wanted ({error})"
            ) from error
    return read_token(file, option)
