"""Every causal family of transformers, tiny and random: written alike in two halves, or refused."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from hsplit_flower.client.other_half import OtherHalf
from hsplit_flower.client.split_generation import SplitGenerator
from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Parts, load_half, read_architecture
from tests.every_family import EVERY_FAMILY, class_of, small_config
from tests.families import fields, random_model, save
from tests.workers import Worker, exchange, over_grpc, running_worker_of

GREEDY = GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0)


def _whole(kind: Any, folder: str, asked: dict[str, Any]) -> torch.Tensor:
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig()
    try:
        written: torch.Tensor = model.generate(**asked, generation_config=GREEDY)
    except Exception as error:
        pytest.skip(f"the whole model writes nothing here: {str(error)[:80]}")
    return written


def _split(worker: Worker, folder: str, cut: int, asked: dict[str, Any]) -> torch.Tensor:
    half = load_half(folder, Parts.of_client(cut, keeps_labels=False))
    spec = SessionSpec.to_write(cut=cut, kept_tokens=600)
    token = worker.worker.open(spec)
    with exchange(over_grpc, worker, token) as stream:
        other = OtherHalf(stream, half.architecture.vocabulary_size)
        return SplitGenerator(half, lambda: nullcontext(other)).generate(
            **asked, generation_config=GREEDY
        )


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", EVERY_FAMILY)
def test_greedy_tokens_are_those_of_the_whole_model_or_it_is_refused_by_name(
    model_type: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """With ``--junitxml`` the outcomes can be counted."""
    config = small_config(model_type)
    kind = class_of(config)
    try:
        num_blocks = read_architecture(config).num_blocks
    except UnsupportedModelError as refused:
        pytest.skip(f"it cannot be split: {str(refused)[:80]}")
    folder = str(save(random_model(config, kind=kind), tmp_path / "model"))
    batch = fields("unpadded")
    asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
    wanted = _whole(kind, folder, asked)
    with running_worker_of(load_half(folder, Parts.of_worker(1, num_blocks))) as worker:
        for cut in range(1, num_blocks + 1):
            try:
                got = _split(worker, folder, cut, asked)
            except UnsupportedModelError as refused:
                assert f"{config.model_type!r} cannot write texts in two halves" in str(refused)
                record_property("outcome", "refused")
                return
            assert torch.equal(got, wanted), cut
    record_property("outcome", "equal")
