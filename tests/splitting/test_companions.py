"""What is copied of a model's folder beside its weights, and what is not."""

import json
from pathlib import Path

import pytest
import torch

from hsplit_flower.splitting import Checkpoint
from hsplit_flower.splitting.companions import copy_companions, is_companion


@pytest.mark.parametrize(
    ("name", "is_copied"),
    [
        ("config.json", True),
        ("generation_config.json", True),
        ("tokenizer.json", True),
        ("tokenizer.model", True),
        ("merges.txt", True),
        ("chat_template.jinja", True),
        ("LICENSE", True),
        ("LICENSE.txt", True),
        ("model.safetensors", False),
        ("model.safetensors.index.json", False),
        ("pytorch_model.bin", False),
        ("pytorch_model.bin.index.json", False),
        ("adapter_config.json", False),
        ("modeling_own.py", False),
        ("optimizer.pt", False),
        ("README.md", False),
    ],
)
def test_only_what_a_model_needs_beside_its_weights_is_copied(name: str, is_copied: bool) -> None:
    assert is_companion(name) is is_copied


def test_the_built_in_bases_files_are_copied_as_they_are(tmp_path: Path, llama_tiny: Path) -> None:
    copy_companions(Checkpoint(source="llama-tiny"), tmp_path, None)
    copied = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(copied) == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert all((llama_tiny / name).read_bytes() == content for name, content in copied.items())


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"model_type": "x"}, {"model_type": "x", "dtype": "bfloat16"}),
        ({"torch_dtype": "float32"}, {"torch_dtype": "bfloat16"}),
        (
            {"dtype": "float32", "text_config": {"dtype": "float32", "n": 1}, "rope": {"n": 2}},
            {"dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "n": 1}, "rope": {"n": 2}},
        ),
    ],
)
def test_the_configuration_says_another_type_wherever_it_says_one(
    tmp_path: Path, config: dict[str, object], wanted: dict[str, object]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    copy_companions(Checkpoint(source=str(source)), target, torch.bfloat16)
    assert json.loads((target / "config.json").read_text(encoding="utf-8")) == wanted
