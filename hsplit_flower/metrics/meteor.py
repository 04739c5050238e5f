"""METEOR 1.5, by the program and the data that pycocoevalcap brings.

The program is spoken to here and not by way of its class there: when Java fails, that class waits
for ever to be taken down, and says nothing of the reason.
"""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from .java import HEAP, failed_java, java_command

_SEPARATOR = " ||| "
_PATIENCE_SECONDS = 10.0


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """METEOR of all items together, between 0 and 1, from tokenised texts.

    Raises
    ------
    MetricsUnavailableError
        If the program fails.
    """
    from pycocoevalcap.meteor import meteor as module

    jar = Path(module.__file__).parent / module.METEOR_JAR
    command = java_command(HEAP, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm")
    with TemporaryFile() as errors:
        program = _Program(command, errors)
        try:
            statistics = [
                program.answer(_SEPARATOR.join(("SCORE", *map(_plain, texts), _plain(hypothesis))))
                for hypothesis, texts in zip(hypotheses, references, strict=True)
            ]
            # A score for each item comes first, and then the score of all.
            for_items = program.answer(_SEPARATOR.join(("EVAL", *statistics)))
            rest = [program.next_line() for _ in hypotheses]
        finally:
            program.end()
    return float([for_items, *rest][-1])


class _Program:
    """A program that answers lines with lines."""

    def __init__(self, command: Sequence[str], errors: IO[bytes]) -> None:
        self._errors = errors
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )

    def answer(self, line: str) -> str:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failure() from error
        return self.next_line()

    def next_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode().strip()
        if not line:
            raise self._failure()
        return line

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            # What it was to read may still be there.
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()

    def _failure(self) -> Exception:
        try:
            status = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        self._errors.seek(0)
        return failed_java("METEOR failed", status, self._errors.read().decode(errors="replace"))


def _plain(text: str) -> str:
    """A text without what parts texts."""
    return text.replace("|||", "").replace("  ", " ")
