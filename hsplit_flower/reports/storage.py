"""A folder that one process alone writes into, and errors of the disk in words."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError, StorageError

if sys.platform != "win32":  # which has no locks of this kind
    import fcntl

PATIENCE_SECONDS, LOOK_SECONDS = 10.0, 0.1


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Say of a failed write which file it was, and what to do.

    Raises
    ------
    StorageError
        Where the system refuses: the disk is full, or may not be written to.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {_reason(error)}. What was written before is "
            "whole; make room, or give another folder"
        ) from error


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):
        # Of a folder: each file, its copy, and why that was not made.
        *_, (_, _, reason) = error.args[0]
        return str(reason)
    return error.strerror or str(error)


def replace_text(path: Path, text: str) -> None:
    """Put a text where another one may be, in one move.

    Raises
    ------
    StorageError
        If it cannot be written; what was there is there still.
    """
    with storing(path):
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)


class FolderClaim:
    """A folder that nobody else may claim until this one is let go, or its process ends.

    It is waited for a little: a simulation that failed, or a run that was stopped, is some seconds
    in ending.

    Parameters
    ----------
    path
        Of a folder that is there.

    Raises
    ------
    ConfigError
        If another run has it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        if sys.platform == "win32":
            return
        descriptor = os.open(path, os.O_RDONLY)
        end = time.monotonic() + PATIENCE_SECONDS
        while not _is_locked(descriptor):
            if time.monotonic() >= end:
                os.close(descriptor)
                raise ConfigError(
                    f"{path} is being written by another run: choose another run-name, or wait for "
                    "its end"
                )
            time.sleep(LOOK_SECONDS)
        self._descriptor = descriptor

    def let_go(self) -> None:
        """Others may claim it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _is_locked(descriptor: int) -> bool:
    """Lock a folder for this process, itself: no file is left where a process was killed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
