"""The Java programs that pycocoevalcap brings: whether they can run, and why one has failed."""

import shutil
import subprocess
from collections.abc import Sequence

from ..errors import MetricsUnavailableError

JAVA = "java"
HEAP = "-Xmx2G"
# Otherwise Java 17 and older read and write what the locale says.
ENCODING = "-Dfile.encoding=UTF-8"
_PATIENCE_SECONDS = 60.0
_MOST_CHARACTERS = 500


def java_command(heap: str, *arguments: str) -> list[str]:
    """A command line of Java that reads and writes UTF-8."""
    return [JAVA, *([heap] if heap else []), ENCODING, *arguments]


def check_java() -> None:
    """See that Java is there, and that it can have the memory that METEOR needs.

    Raises
    ------
    MetricsUnavailableError
        If it is not, or cannot.
    """
    if shutil.which(JAVA) is None:
        raise MetricsUnavailableError(
            "METEOR, ROUGE-L and CIDEr need Java, and there is no program 'java' on the PATH; "
            "install a Java runtime of version 8 or later, or ask for no metrics (--no-metrics)"
        )
    try:
        done = subprocess.run(
            java_command(HEAP, "-version"),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MetricsUnavailableError(
            f"Java does not start ({error}); METEOR, ROUGE-L and CIDEr need it: repair it, or ask "
            "for no metrics (--no-metrics)"
        ) from error
    if done.returncode:
        raise failed_java(
            "METEOR's Java needs a heap of 2 GB and does not start with it",
            done.returncode,
            done.stderr + done.stdout,
        )


def failed_java(what: str, status: int | None, output: str) -> MetricsUnavailableError:
    """The error for a program of Java's that has ended: its status, and what it said."""
    said = " ".join(output.split())[:_MOST_CHARACTERS] or "nothing"
    return MetricsUnavailableError(
        f"{what}: it ended with status {status} and said: {said}. Let the process have 2 GB more "
        "(see ulimit -v, a container's limit, and what else runs), or ask for no metrics "
        "(--no-metrics)"
    )


def run_java(what: str, arguments: Sequence[str], text: str) -> str:
    """What a program says to a text.

    Raises
    ------
    MetricsUnavailableError
        If it fails.
    """
    done = subprocess.run(
        java_command("", *arguments), input=text.encode(), capture_output=True, check=False
    )
    if done.returncode:
        raise failed_java(f"{what} failed", done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout.decode()
