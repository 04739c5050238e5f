"""The project's pages for people, as tests read them: their blocks of code, and which are run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide"

_BLOCK = re.compile(
    r"(?:^<!-- test: (?P<test>\w+) ?(?P<reason>[^\n]*?) ?-->\n)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code on a page.

    ``test`` is the word in the comment above it, ``<!-- test: WORD -->``, which readers do not see:
    blocks of one word are run one after the other, by the test that asks for them. ``reason`` is
    what follows the word: why a block is not run, or not everywhere.
    """

    page: Path
    language: str
    code: str
    test: str
    reason: str


def pages() -> list[Path]:
    """The README, and the pages of the guide."""
    return [README, *sorted(GUIDE.glob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """All blocks of a page."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(
            page=page,
            language=found["language"],
            code=found["code"],
            test=found["test"] or "",
            reason=found["reason"] or "",
        )


def script(page: Path, test: str) -> str:
    """The shell's commands of a page that one test runs, in their order."""
    codes = [block.code for block in blocks(page) if (block.language, block.test) == ("sh", test)]
    return "".join(["set -euo pipefail\n", *codes])


def code_named(page: Path, name: str) -> str:
    """The Python block of a page that begins with ``# name``."""
    codes = (block.code for block in blocks(page) if block.language == "python")
    return next(code for code in codes if code.startswith(f"# {name}\n"))
