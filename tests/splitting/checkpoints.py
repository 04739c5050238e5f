"""Checkpoints that a test may change."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from hsplit_flower.splitting import Half, Parts
from tests.families import FAMILIES, NUM_BLOCKS, checkpoint, random_model, save

CLIENT = Parts.of_client(1, keeps_labels=False)
WORKER = Parts.of_worker(2, NUM_BLOCKS)


def sharded(name: str, folder: Path) -> Path:
    """The family's model in one shard for every two or three tensors."""
    family = FAMILIES[name]
    return save(random_model(family.config(), family.attention), folder, max_shard_size="3KB")


def single(name: str, folder: Path) -> Path:
    """A copy of the family's model that a test may change."""
    return Path(shutil.copytree(checkpoint(name), folder / name))


def in_hubs_cache(
    home: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, *absent: str, leave: str = ""
) -> str:
    """The id of a model that the hub's cache has as this folder has it.

    Parameters
    ----------
    home, monkeypatch, folder
        Where the cache is to be from now on, and the model's files.
    absent
        What the hub said not to have.
    leave
        A file that was not fetched; `fetch_into_cache` does that.
    """
    commit, model = "a" * 40, home / "models--someone--a-model"
    snapshot, marks = model / "snapshots" / commit, model / ".no_exist" / commit
    blobs = shutil.copytree(folder, model / "blobs")
    for each in (snapshot, marks, model / "refs"):
        each.mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    for file in blobs.iterdir():
        if file.name != leave:
            fetch_into_cache(home, file.name)
    for name in absent:
        (marks / name).touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    return "someone/a-model"


def fetch_into_cache(home: Path, file: str) -> None:
    """Have one more file of the model of `in_hubs_cache`."""
    model = home / "models--someone--a-model"
    (snapshot,) = (model / "snapshots").iterdir()
    (snapshot / file).symlink_to(model / "blobs" / file)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Rewrite the tensors of a single-file checkpoint."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def parameters_of(half: Half) -> dict[str, Tensor]:
    return dict(half.model.named_parameters())
