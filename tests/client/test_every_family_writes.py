"""Every causal family of transformers, tiny and random: written alike in two halves, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hsplit_flower.client.other_half import OtherHalf
from hsplit_flower.client.split_generation import SplitGenerator
from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Parts, build_empty, load_half, read_architecture
from tests.families import fields, random_model, save, shrunk
from tests.workers import Worker, exchange, over_grpc, running_worker_of

MOST_PARAMETERS = 30_000_000
GREEDY = GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0)


def _num_blocks(config: PretrainedConfig) -> int:
    """Of a model that can be split and runs here; a family that has none is skipped."""
    try:
        num_blocks = read_architecture(config).num_blocks
        size = sum(parameter.numel() for parameter in build_empty(config).parameters())
    except Exception as error:  # each family's configuration refuses in its own way
        pytest.skip(f"it cannot be split, or not be made so small: {str(error)[:80]}")
    if size > MOST_PARAMETERS:
        pytest.skip(f"the smallest has {size / 1e6:.0f} million parameters")
    return num_blocks


def _whole(folder: str, asked: dict[str, Any]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig()
    try:
        written: torch.Tensor = model.generate(**asked, generation_config=GREEDY)
    except Exception as error:
        pytest.skip(f"the whole model writes nothing here: {str(error)[:80]}")
    return written


def _split(worker: Worker, folder: str, cut: int, asked: dict[str, Any]) -> torch.Tensor:
    half = load_half(folder, Parts.of_client(cut, keeps_labels=False))
    spec = SessionSpec(client=0, cut=cut, kept_tokens=600, train=False, in_flight=1)
    token = worker.worker.open(spec)
    with exchange(over_grpc, worker, token) as stream:
        other = OtherHalf(stream, half.architecture.vocabulary_size)
        return SplitGenerator(half, other).generate(**asked, generation_config=GREEDY)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}))
def test_greedy_tokens_are_those_of_the_whole_model_or_it_is_refused_by_name(
    model_type: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """With ``--junitxml`` the outcomes can be counted."""
    try:
        config = shrunk(model_type)
    except Exception as error:
        pytest.skip(f"no tiny {model_type} can be made: {str(error)[:80]}")
    num_blocks = _num_blocks(config)
    folder = str(save(random_model(config), tmp_path / "model"))
    batch = fields("unpadded")
    asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
    wanted = _whole(folder, asked)
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
