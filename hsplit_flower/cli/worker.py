"""``hsplit worker``: a split worker in a process of its own."""

import argparse
import os
import secrets
from pathlib import Path
from typing import Any

from ..errors import ConfigError, SplitError
from .limits import A_MESSAGE_MB, A_PORT, NUM_THREADS, POSITIVE, at_least, out_of_limits, refuse
from .model_options import add_model_options

TOKEN_VARIABLE = "HSPLIT_OPERATOR_TOKEN"

LIMITS = {
    "port": A_PORT,
    "lowest_cut": at_least(1),
    "threads": NUM_THREADS,
    "max_sessions": at_least(1),
    "max_message_mb": A_MESSAGE_MB,
    "session_timeout": POSITIVE,
}


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "worker",
        help="run a split worker",
        description="Hold the upper blocks of a model and train them for many clients. The "
        f"operator's token, which the ServerApp needs too, is read from ${TOKEN_VARIABLE} or from "
        "a file.",
    )
    add_model_options(parser)
    _add_address(parser)
    _add_resources(parser)
    parser.add_argument(
        "--operator-token-file",
        type=Path,
        help="file that holds the operator's token; made with a new token if there is none "
        f"(default: the token is read from ${TOKEN_VARIABLE})",
    )
    parser.set_defaults(run=run)


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for all of this machine's (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8600,
        help="port to listen on; 0 for a free one (default: %(default)s)",
    )


def _add_resources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lowest-cut",
        type=int,
        default=1,
        help="number of the first block that is held, which is the shallowest cut that clients may "
        "have (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="where to compute: cpu, cuda, cuda:1, or auto for the GPU if there is one "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        help="threads to compute with; 0 leaves torch's own choice (default: %(default)s)",
    )
    parser.add_argument(
        "--max-sessions",
        type=int,
        default=2**16,
        help="most clients that are served at a time; a round with more is refused "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-message-mb",
        type=int,
        default=64,
        help="largest message in MB of 2^20 bytes (default: %(default)s)",
    )
    parser.add_argument(
        "--session-timeout",
        type=float,
        default=600.0,
        help="seconds of silence after which a client that has begun is dropped from its round "
        "(default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted or terminated."""
    refuse(out_of_limits(options, LIMITS))
    token = operator_token(options.operator_token_file)
    # These bring torch, for which neither help nor a mistyped option need wait.
    from ..worker.hosting import WorkerSettings, host_worker

    settings = WorkerSettings(
        model=options.model,
        revision=options.revision,
        lowest_cut=options.lowest_cut,
        dtype=options.dtype,
        attention=options.attention,
        device=options.device,
        host=options.host,
        port=options.port,
        max_message_bytes=options.max_message_mb * 2**20,
        max_sessions=options.max_sessions,
        session_timeout_seconds=options.session_timeout,
        num_threads=options.threads,
        operator_token=token,
    )
    try:
        worker = host_worker(settings)
    except SplitError as error:
        raise ConfigError(f"--lowest-cut is {options.lowest_cut}: {error}") from error
    description = worker.describe()
    print(
        f"split worker of {description.model}: blocks {description.lowest_cut} to "
        f"{description.num_blocks - 1}, on {worker.address}",
        flush=True,
    )
    try:
        worker.wait()
    finally:
        worker.stop()
    return 0


def operator_token(file: Path | None) -> str:
    """The operator's token: from the file, else from the environment.

    A file that does not exist is made, readable by its owner only.

    Raises
    ------
    ConfigError
        If there is neither, the file cannot be read or made, or the token is empty.
    """
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "")
        if not token:
            raise ConfigError(
                f"a worker needs its operator's token: set {TOKEN_VARIABLE}, or give "
                "--operator-token-file"
            )
        return token
    try:
        if not file.exists():
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                opened.write(secrets.token_urlsafe(32) + "\n")
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--operator-token-file is {file}: a text file that can be read, or made, is wanted "
            f"({error})"
        ) from error
    if not token:
        raise ConfigError(f"{file} holds no token")
    return token
