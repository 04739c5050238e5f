"""Models whose blocks differ from each other, or are more than plain layers: split at every cut."""

from pathlib import Path

import pytest
import torch

from hsplit_flower.costs import Workload, trace_costs
from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Parts, load_half, read_architecture
from tests.families import fields, random_model, save, shrunk

HYBRIDS = ("qwen3_next", "qwen3_5_text", "lfm2", "jamba", "falcon_h1", "nemotron_h")
# An output that is added to in place, routers that give two tensors.
OTHERS = ("falcon", "phimoe", "llama4_text")
# Their smallest is not small: some parts have sizes of their own.
LARGE = ("falcon_h1", "qwen3_5_text")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(name, marks=pytest.mark.long if name in LARGE else ())
        for name in (*HYBRIDS, *OTHERS)
    ],
)
def test_logits_are_those_of_the_unsplit_model_at_every_cut(
    model_type: str, tmp_path: Path
) -> None:
    config = shrunk(model_type)
    model = random_model(config)
    folder = save(model, tmp_path)
    given = fields("right")
    ids, mask = given["input_ids"], given["attention_mask"]
    with torch.no_grad():
        wanted = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    num_blocks = read_architecture(config).num_blocks
    for cut in range(1, num_blocks):
        client = load_half(str(folder), Parts.of_client(cut, keeps_labels=False))
        worker = load_half(str(folder), Parts.of_worker(cut, num_blocks))
        with torch.no_grad():
            got = worker.logits(client.embed(ids, mask), mask, start=cut)
        torch.testing.assert_close(got[mask.bool()], wanted[mask.bool()], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", [*HYBRIDS, *OTHERS])
def test_what_they_cost_can_be_traced(model_type: str) -> None:
    costs = trace_costs(shrunk(model_type), Workload(batch_size=2, sequence_length=9))
    assert costs.block.forward_flops > 0


@pytest.mark.parametrize("model_type", ["modernbert-decoder", "rwkv"])
def test_who_needs_modules_of_the_other_half_is_refused_before_anything_is_loaded(
    model_type: str,
) -> None:
    with pytest.raises(UnsupportedModelError, match="its code needs modules of the other half"):
        read_architecture(shrunk(model_type))
