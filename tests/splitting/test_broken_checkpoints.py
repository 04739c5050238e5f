"""What is wrong with a checkpoint is said, if it concerns the half that is loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Parts, load_half
from tests.families import NUM_BLOCKS
from tests.splitting.checkpoints import CLIENT, WORKER, rewrite, single


def _without(*endings: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rewrite(folder, lambda old: {k: v for k, v in old.items() if not k.endswith(endings)})

    return change


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a safetensors file at all")


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (folder / "model.safetensors").write_text(text)


def _bad_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{")


def _index_of_nothing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}}')


def _index_of_missing_shards(folder: Path) -> None:
    names = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(names, "model-00001-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _widened(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))


def _deepened(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_without("layers.2.mlp.up_proj.weight"), "lacks 1 tensors of this half.*layers.2.mlp.up"),
        (
            _without("norm.weight", "proj.weight"),
            "lacks .* tensors.*complete checkpoint of a llama",
        ),
        (_pickled, "pickle files .* are refused because loading them can run code; convert"),
        (_truncated, "cannot be read as safetensors"),
        (_garbage, "cannot be read as safetensors"),
        (_empty, "cannot be read as safetensors"),
        (_pointer, "cannot be read as safetensors: it is what git keeps.*git lfs pull"),
        (_index_of_missing_shards, "no model-00001-of-00002.* not complete; fetch or copy it"),
        (_bad_index, "cannot be read as an index of shards"),
        (_index_of_nothing, "cannot be read as an index of shards.*weight_map"),
        (_widened, "other shapes than its config.json says.*mlp"),
        (_deepened, "lacks 18 tensors"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_said(
    break_it: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    folder = single("llama", tmp_path)
    break_it(folder)
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        load_half(str(folder), Parts.of_worker(2, 5 if break_it is _deepened else NUM_BLOCKS))
    assert str(folder) in str(caught.value)


def test_what_is_wrong_with_the_other_half_does_not_matter(tmp_path: Path) -> None:
    folder = single("llama", tmp_path)
    _without("embed_tokens.weight", "layers.0.mlp.up_proj.weight")(folder)
    load_half(str(folder), WORKER)
    with pytest.raises(UnsupportedModelError, match="lacks 2 tensors"):
        load_half(str(folder), CLIENT)
