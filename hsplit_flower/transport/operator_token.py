"""The operator's token of a worker: what opens sessions on it, and where it is read from."""

import os
from pathlib import Path

from ..errors import ConfigError
from ..settings import OPERATOR_TOKEN_FILE_VARIABLE, OPERATOR_TOKEN_VARIABLE, Worker
from ..settings.worker import SHORTEST_TOKEN

MAKE_ONE = "hsplit worker --operator-token-file FILE, with a file that is not there, makes one"


COPY_IT = "copy the file that hsplit worker was given as --writer-token-file to this machine"


def token_towards(worker: Worker, *, is_to_write: bool = False) -> str:
    """What a strategy, or who writes texts, shows to a worker that runs already.

    A file is read anew for every run, so a token can change while a SuperLink stays.

    Parameters
    ----------
    worker
        The run's settings: the token itself, or the file that holds it; else the environment has
        the one or the other.
    is_to_write
        Whether texts are to be written with it, for which a worker has another token, too.

    Raises
    ------
    ConfigError
        If there is none, a file cannot be read, or the token is too short.
    """
    if worker.operator_token:
        return worker.operator_token
    if worker.operator_token_file:
        advice = COPY_IT if is_to_write else MAKE_ONE
        return read_token(
            Path(worker.operator_token_file), "worker.operator-token-file", advice=advice
        )
    if file := os.environ.get(OPERATOR_TOKEN_FILE_VARIABLE):
        return read_token(Path(file), f"${OPERATOR_TOKEN_FILE_VARIABLE}")
    if token := os.environ.get(OPERATOR_TOKEN_VARIABLE):
        return checked_token(token, f"${OPERATOR_TOKEN_VARIABLE}")
    if is_to_write:
        raise ConfigError(
            f"worker.address = {worker.address!r}: a token that it lets write is wanted; {COPY_IT} "
            "and name it with worker.operator-token-file, or have "
            f"{OPERATOR_TOKEN_FILE_VARIABLE} or {OPERATOR_TOKEN_VARIABLE} in the environment here"
        )
    raise ConfigError(
        f"worker.address = {worker.address!r}: the token of that worker's operator is wanted. Name "
        "the file that holds it, on this machine (in a run, the ServerApp's), with "
        f"worker.operator-token-file, or have {OPERATOR_TOKEN_FILE_VARIABLE} or "
        f"{OPERATOR_TOKEN_VARIABLE} in the environment here"
    )


def read_token(file: Path, where: str, *, advice: str = MAKE_ONE) -> str:
    """The token that a file holds.

    Parameters
    ----------
    file
        Of text; white space around the token is no part of it.
    where
        What names the file, to be told.
    advice
        How there comes to be one.

    Raises
    ------
    ConfigError
        If it cannot be read, is empty, or the token is too short.
    """
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{where} is {file}: a text file that can be read is wanted ({error}); {advice}"
        ) from error
    if not token:
        raise ConfigError(f"{where} is {file}, which holds no token; {advice}")
    return checked_token(token, str(file))


def checked_token(token: str, where: str) -> str:
    """A token that nobody guesses, and that a call can carry.

    Raises
    ------
    ConfigError
        If it is too short, or has other letters than a header of gRPC may have.
    """
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(
            f"the token in {where} is of several lines or has letters beyond ASCII, which no call "
            f"can carry: one line of ASCII is wanted; {MAKE_ONE}"
        )
    if len(token) < SHORTEST_TOKEN:
        raise ConfigError(
            f"the token in {where} has {len(token)} characters: {SHORTEST_TOKEN} or "
            f"more are wanted, which nobody guesses; {MAKE_ONE}"
        )
    return token
