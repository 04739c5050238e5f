"""``hsplit settings``: all settings, on a terminal and as a page of the documentation."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from hsplit_flower.cli import main
from hsplit_flower.settings import GROUPS, Chat, Device, NodeCertificates, OwnData
from hsplit_flower.settings.reading import keys_of

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
COMMAND = [sys.executable, "-m", "hsplit_flower.cli", "settings"]


def on_a_terminal(width: int) -> list[str]:
    """What the command shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        COMMAND, stdin=theirs, stdout=theirs, env={**environment, "TERM": "dumb"}
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux tells that the other side is closed
                break
            if not piece:
                break
            shown += piece
        assert process.wait() == 0
    os.close(ours)
    return shown.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_a_terminal(width: int):
    lines = on_a_terminal(width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text and "\x1b" not in text
    words = text.split()
    for key in keys_of(GROUPS):
        assert key.partition(".")[2] in words, key


def test_a_pipe_gets_every_key_and_no_colours(capsys: pytest.CaptureFixture[str]):
    assert main(["settings"]) == 0
    text = capsys.readouterr().out
    assert "…" not in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120
    for name in GROUPS:
        assert f"{name}: " in text


def test_the_page_says_of_every_setting_what_its_field_says(capsys: pytest.CaptureFixture[str]):
    assert main(["settings", "--markdown"]) == 0
    page = capsys.readouterr().out
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    known = dict(keys_of({**GROUPS, "chat": Chat}))
    for of_nodes in (Device, NodeCertificates, OwnData):
        known |= keys_of({"": of_nodes})
    assert [row.split("`")[1] for row in rows] == list(known)
    for row, field in zip(rows, known.values(), strict=True):
        assert row.replace("\\", "").endswith(f"| {field.description} |")
        assert field.unit in row
    assert "`worker.operator-token`" not in page
    for name in (*GROUPS, "chat", "device", "node", "own data"):
        assert page.count(f"\n## {name}\n") == 1
    assert page.startswith("# ") and page.endswith("|\n")


def test_the_page_is_the_same_in_every_process():
    pages = {
        subprocess.run(
            [*COMMAND, "--markdown"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(pages) == 1


def test_the_documentation_has_the_page_of_today(capsys: pytest.CaptureFixture[str]):
    assert main(["settings", "--markdown"]) == 0
    assert PAGE.read_text(encoding="utf-8") == capsys.readouterr().out
