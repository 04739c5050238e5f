"""``hsplit worker``: a split worker in a process of its own."""

import argparse
import os
import secrets
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..worker.hosting import WorkerSettings, host_worker

TOKEN_VARIABLE = "HSPLIT_OPERATOR_TOKEN"


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    defaults = WorkerSettings(model="")
    parser = commands.add_parser(
        "worker",
        help="run a split worker",
        description="Hold the upper blocks of a model and train them for many clients. The "
        f"operator's token, which the ServerApp needs too, is read from ${TOKEN_VARIABLE} or from "
        "a file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="llama-tiny, a folder, or a hub id")
    parser.add_argument("--revision", default=defaults.revision, help="of a hub model")
    parser.add_argument("--host", default=defaults.host, help="address to listen on")
    parser.add_argument(
        "--advertised-host", default="", help="what clients are told; by default the host"
    )
    parser.add_argument(
        "--port", type=int, default=8600, help="port to listen on; 0 for a free one"
    )
    parser.add_argument(
        "--lowest-cut", type=int, default=defaults.lowest_cut, help="first block that is held"
    )
    parser.add_argument(
        "--dtype",
        default=defaults.dtype,
        choices=("float32", "bfloat16", "float16"),
        help="of the base",
    )
    parser.add_argument("--attention", default="", help="attention implementation")
    parser.add_argument("--device", default=defaults.device, help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's own choice")
    parser.add_argument("--max-sessions", type=int, default=defaults.max_sessions)
    parser.add_argument("--max-message-mb", type=int, default=64, help="of 2^20 bytes")
    parser.add_argument(
        "--session-timeout",
        type=float,
        default=defaults.session_timeout_seconds,
        help="seconds of silence after which a session is dropped",
    )
    parser.add_argument(
        "--operator-token-file", type=Path, help="holds the token; made if it does not exist"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    worker = host_worker(
        WorkerSettings(
            model=options.model,
            revision=options.revision,
            lowest_cut=options.lowest_cut,
            dtype=options.dtype,
            attention=options.attention,
            device=options.device,
            host=options.host,
            advertised_host=options.advertised_host,
            port=options.port,
            max_message_bytes=options.max_message_mb * 2**20,
            max_sessions=options.max_sessions,
            session_timeout_seconds=options.session_timeout,
            num_threads=options.threads,
            operator_token=operator_token(options.operator_token_file),
        )
    )
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
        If there is neither, or the token is empty.
    """
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "")
        if not token:
            raise ConfigError(
                f"a worker needs its operator's token: set {TOKEN_VARIABLE}, or give "
                "--operator-token-file"
            )
        return token
    if not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(secrets.token_urlsafe(32) + "\n")
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise ConfigError(f"{file} holds no token")
    return token
