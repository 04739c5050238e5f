"""A file written tensor by tensor is read by safetensors, and is what its own writer would make."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting.tensor_file import DTYPES, TensorEntry, write_tensors


def entries_of(tensors: dict[str, Tensor]) -> dict[str, TensorEntry]:
    return {
        name: TensorEntry(dtype=tensor.dtype, shape=tensor.shape)
        for name, tensor in tensors.items()
    }


def test_every_type_and_shape_is_read_back(tmp_path: Path) -> None:
    tensors = {
        f"{kind}.{'x'.join(map(str, shape))}": (100 * torch.rand(shape)).to(dtype)
        for kind, dtype in DTYPES.items()
        for shape in ((), (0,), (3,), (2, 5), (1, 3, 2))
    }
    tensors["transposed"] = torch.rand(4, 3).T
    metadata = {"format": "pt", "said by": 'who "quotes" – ü'}
    path = tmp_path / "file"
    write_tensors(path, entries_of(tensors), tensors.__getitem__, metadata=metadata)
    read = load_file(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype is tensor.dtype and torch.equal(read[name], tensor), name
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == metadata


def test_tensors_are_asked_for_one_after_the_other(tmp_path: Path) -> None:
    size, asked = 2**16, []

    def tensor_of(name: str) -> Tensor:
        before = (tmp_path / "file").stat().st_size
        assert before >= 4 * size * (len(asked) - 1), "what was asked for before is written"
        asked.append(name)
        return torch.zeros(size)

    entries = {name: TensorEntry(dtype=torch.float32, shape=[size]) for name in "abc"}
    write_tensors(tmp_path / "file", entries, tensor_of, metadata={})
    assert asked == ["a", "b", "c"]


@pytest.mark.parametrize("wrong", [torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.float16)])
def test_a_tensor_that_is_not_as_announced_is_refused(tmp_path: Path, wrong: Tensor) -> None:
    entries = {"w": TensorEntry(dtype=torch.float32, shape=[2, 3])}
    with pytest.raises(UnsupportedModelError, match=r"'w' is \[.*header says \[2, 3\]"):
        write_tensors(tmp_path / "file", entries, lambda name: wrong, metadata={})
