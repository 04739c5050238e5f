"""A device writes with a worker that has its base, whatever type each of them computes in."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hsplit_flower import split_generate
from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.settings import Decoding, Model, SplitText
from hsplit_flower.settings import Worker as WorkerSettings
from hsplit_flower.splitting import Parts, floating_dtype, load_half
from tests.families import save
from tests.workers import OPERATOR_TOKEN, Worker, running_worker_of


def other_values(base: Path, folder: Path) -> Path:
    """A model of the same shape that was made anew."""
    shutil.copytree(base, folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return save(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)), folder)


def rounded_copy(base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder)
    return save(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), folder)


def written(worker: Worker, model: Model, folder: Path) -> list[str]:
    token = folder / "token"
    token.write_text(OPERATOR_TOKEN, encoding="utf-8")
    try:
        return split_generate(
            ["The name of the place"],
            model=model,
            worker=WorkerSettings(address=worker.address, operator_token_file=str(token)),
            decoding=Decoding(max_new_tokens=3),
            text=SplitText(context_tokens=32),
        )
    finally:
        assert len(worker.sessions) == 0


def test_another_base_of_the_same_shape_is_refused(llama_tiny: Path, tmp_path: Path) -> None:
    other = Model(name=str(other_values(llama_tiny, tmp_path / "other")))
    with running_worker_of(load_half(str(llama_tiny), Parts.of_worker(1, 8))) as worker:
        with pytest.raises(UnsupportedModelError, match=r"the values of 74 of 74 tensors"):
            written(worker, other, tmp_path)
        assert written(worker, Model(name=str(llama_tiny), dtype="bfloat16"), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("numbers", ["float32", "bfloat16", "nf4"])
def test_the_same_base_is_taken_whatever_both_sides_compute_in(
    numbers: str, llama_tiny: Path, tmp_path: Path
) -> None:
    """And another one refused, also by a worker that computes in this type."""
    base = Model(name=str(llama_tiny), dtype=numbers)
    half = load_half(
        base.name,
        Parts.of_worker(1, 8),
        dtype=floating_dtype(base.computes_in),
        quantised=base.quantised,
    )
    other = Model(name=str(other_values(llama_tiny, tmp_path / "other")))
    with running_worker_of(half) as worker:
        for dtype in ("float32", "bfloat16", "nf4"):
            assert written(worker, Model(name=str(llama_tiny), dtype=dtype), tmp_path)
        for dtype in ("float32", numbers):
            with pytest.raises(UnsupportedModelError, match=r"the values of 74 of 74 tensors"):
                written(worker, other.replace(dtype=dtype), tmp_path)


@pytest.mark.long
def test_a_copy_in_fewer_bits_is_the_base_of_a_worker_that_computes_in_them(
    llama_tiny: Path, tmp_path: Path
) -> None:
    copy = Model(name=str(rounded_copy(llama_tiny, tmp_path / "copy")), dtype="bfloat16")
    half = load_half(str(llama_tiny), Parts.of_worker(1, 8), dtype=torch.bfloat16)
    with running_worker_of(half) as worker:
        assert written(worker, copy, tmp_path)
    with (
        running_worker_of(load_half(str(llama_tiny), Parts.of_worker(1, 8))) as worker,
        pytest.raises(UnsupportedModelError, match="stored in BF16 where F16 is wanted"),
    ):
        written(worker, copy, tmp_path)
