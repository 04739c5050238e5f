"""Programs for the length of a with-block: nothing that they started outlives it."""

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

# In the environment of what is started for one run, and of nothing else.
MARK = "HSPLIT_STARTED_FOR"


@contextmanager
def background(
    command: Sequence[str], environment: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program in a process group of its own; end all that it started afterwards.

    An interrupt says that it was.
    """
    mark = uuid.uuid4().hex
    marked = {**environment, MARK: mark}
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, env=marked, stdout=file, stderr=file, start_new_session=True
        )
        try:
            yield process
        except KeyboardInterrupt:
            raise KeyboardInterrupt("what was started has been stopped") from None
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
