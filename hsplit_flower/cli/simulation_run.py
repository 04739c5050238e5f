"""A run of an app, shown and kept while its log grows; one that found Ray late is run again."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

# Ray gives its own processes 30 s to start, which are too few on a busy machine, and says this then
# (ray/_private/node.py); Flower's simulation fails with it.
RAY_IS_LATE = "The current node timed out during startup"
TRIED_AGAIN = "hsplit: Ray was too slow to start, so the run is tried once more"


def ray_was_late(log: str) -> bool:
    """Whether this is the log, or the error, of a Ray that did not start in its own time."""
    return RAY_IS_LATE in log


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has ended: all that it said, and why it failed, None if it did not."""

    log: str
    failure: str | None

    @property
    def found_ray_late(self) -> bool:
        """Whether it failed for a reason that another try may not meet."""
        return self.failure is not None and ray_was_late(self.log)


def second_try(run: Callable[[], FinishedRun], show: TextIO | None = None) -> FinishedRun:
    """The run, or another one if it found Ray late; the log is that of both then.

    Parameters
    ----------
    run
        Runs once, to the end.
    show
        Where it is told that there is another try, if anywhere.
    """
    first = run()
    if not first.found_ray_late:
        return first
    _show(f"{TRIED_AGAIN}\n", show)
    second = run()
    return FinishedRun(log=f"{first.log}{TRIED_AGAIN}\n{second.log}", failure=second.failure)


def streamed(
    command: Sequence[str], environment: Mapping[str, str], show: TextIO | None
) -> tuple[str, int]:
    """All that a program says, shown line by line, and its exit status.

    It is killed if this process is told to end meanwhile.
    """
    lines = []
    with subprocess.Popen(
        command,
        # Otherwise Python would keep lines back until there are many.
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                _show(line, show)
        except BaseException:
            process.kill()
            raise
    return "".join(lines), process.returncode


def _show(text: str, show: TextIO | None) -> None:
    if show is not None:
        show.write(text)
        show.flush()
