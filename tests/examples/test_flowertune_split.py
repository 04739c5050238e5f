"""The example: a client of a whole model, and the lines that make it a split client."""

import difflib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from hsplit_flower.adapters import import_adapter
from hsplit_flower.cli.local_flower import local_superlink, simulated_clients
from hsplit_flower.data import collated, formatted

EXAMPLE = Path(__file__).parents[2] / "examples" / "flowertune_split"
APP = EXAMPLE / "flowertune_split"
ROWS = [
    {"instruction": f"Name the {word}.", "input": "", "output": f"It is the {word}, no other."}
    for word in ("mill", "river", "market", "library", "harbour", "bridge", "garden", "tower")
]


@pytest.fixture
def dataset() -> Iterator[Any]:
    """The module of the example that both clients use."""
    sys.path.insert(0, str(EXAMPLE))
    import flowertune_split.dataset as module

    yield module
    sys.path.remove(str(EXAMPLE))
    for name in [name for name in sys.modules if name.split(".")[0] == "flowertune_split"]:
        del sys.modules[name]


def test_the_readme_shows_the_lines_that_change_and_all_others() -> None:
    before, after = (
        (APP / name).read_text(encoding="utf-8").splitlines()
        for name in ("whole_model_client_app.py", "client_app.py")
    )
    lines = [line for line in difflib.ndiff(before, after) if not line.startswith("?")]
    shown = "".join(f"{line[0]}{line[2:]}".rstrip() + "\n" for line in lines)
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert f"```diff\n{shown}```" in readme


def test_what_is_learnt_is_the_response(dataset: Any, llama_tiny: Path) -> None:
    tokenizer: PreTrainedTokenizerBase = dataset.get_tokenizer(str(llama_tiny))
    rows = [{"instruction": row["instruction"], "response": row["output"]} for row in ROWS]
    made = formatted(rows, dataset.formatting_func, tokenizer, max_length=128)
    collator = dataset.ResponseCollator(tokenizer, mlm=False)
    (batch,) = collated(made, collator, len(rows))
    for row, labels in zip(rows, batch["labels"].tolist(), strict=True):
        learnt = tokenizer.decode([label for label in labels if label != -100])
        assert learnt == f" {row['response']}</s>"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_split_client_trains_on_flower(
    tmp_path: Path, llama_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    texts = tmp_path / "texts"
    texts.mkdir()
    lines = [json.dumps(row) + "\n" for row in ROWS * 4]
    (texts / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    app = tmp_path / "app"
    shutil.copytree(EXAMPLE, app, ignore=shutil.ignore_patterns("__pycache__"))
    settings = (
        f'model="{llama_tiny}" dataset="{texts}" num-server-rounds=2 max-steps=4 batch-size=4 '
        f'seq-length=128 learning-rate=5e-3 output="{tmp_path / "adapter"}"'
    )
    with local_superlink(tmp_path / "flwr", simulation=True) as flower:
        finished = flower.run(app, ["--run-config", settings, *simulated_clients(2)])
    assert finished.failure is None, finished.log[-6000:]
    assert f"adapter: {tmp_path / 'adapter'}" in finished.log
    assert any(update.rank for update in import_adapter(tmp_path / "adapter").values())
