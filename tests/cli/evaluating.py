"""``hsplit evaluate`` as it is typed, what it leaves, and adapters for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.adapters import export_adapter
from hsplit_flower.cli import main
from tests.server.past_runs import learnt

RANK = 2
SMALL = ("--beam", 2, "--max-new-tokens", 8, "--batch-size", 2, "--device", "cpu")


def write_adapter(folder: Path, *, base: str = "llama-tiny", size: float = 0.004) -> Path:
    updates = learnt(base, rank=RANK, size=size)
    return export_adapter(updates, folder, base_model=base, is_transposed=False)


def arguments(adapter: Path, *more: object) -> list[str]:
    """A command line that decodes little."""
    given = ("--adapter", adapter, "--dataset", "restaurants", "--num-examples", 6, *SMALL, *more)
    return ["evaluate", *map(str, given)]


def evaluated(capsys: pytest.CaptureFixture[str], adapter: Path, *more: object) -> str:
    assert main(arguments(adapter, *more)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], adapter: Path, *more: object) -> str:
    assert main(arguments(adapter, *more)) == 1
    output = capsys.readouterr()
    assert not output.out
    return output.err


def rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of the file of texts: the settings, and then the texts."""
    lines = (folder / "hypotheses.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]
