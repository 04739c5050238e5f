"""Checkpoints that a test may change."""

import shutil
from collections.abc import Callable
from pathlib import Path

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


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Rewrite the tensors of a single-file checkpoint."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def parameters_of(half: Half) -> dict[str, Tensor]:
    return dict(half.model.named_parameters())
