"""Models whose blocks differ from each other, or are more than plain layers: split at every cut."""

from pathlib import Path

import pytest
import torch

from hsplit_flower.costs import Workload, trace_costs
from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Parts, load_half, read_architecture
from tests.families import fields, random_model, save, shrunk

HYBRIDS = ("falcon_h1", "jamba", "lfm2", "nemotron_h", "olmo_hybrid", "qwen3_5_text", "qwen3_next")
# Their routers are linear layers that give two tensors.
ROUTED = ("llama4_text", "phimoe")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", [*HYBRIDS, *ROUTED])
def test_every_cut_gives_the_logits_of_the_whole(model_type: str, tmp_path: Path) -> None:
    config = shrunk(model_type)
    model = random_model(config)
    folder = str(save(model, tmp_path))
    batch = fields("right")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    found = read_architecture(config)
    with torch.no_grad():
        wanted = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for cut in range(1, found.num_blocks):
            client = load_half(folder, Parts.of_client(cut, keeps_labels=False))
            worker = load_half(folder, Parts.of_worker(cut, found.num_blocks))
            got = worker.logits(client.embed(ids, mask), mask, start=cut)
            assert bool((got == wanted)[mask.bool()].all())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", [*HYBRIDS, *ROUTED, "falcon"])
@pytest.mark.one_in(2)
def test_what_they_cost_can_be_traced(model_type: str) -> None:
    costs = trace_costs(shrunk(model_type), Workload(batch_size=2, sequence_length=9))
    assert costs.passes[0].forward_flops > 0


@pytest.mark.parametrize("model_type", ROUTED)
def test_no_adapter_is_put_on_what_gives_two_tensors(model_type: str) -> None:
    names = {weight.name for weight in read_architecture(shrunk(model_type)).weights}
    assert any(name.endswith("q_proj") for name in names)
    assert not any("router" in name for name in names)


@pytest.mark.parametrize("model_type", ["modernbert-decoder", "rembert"])
def test_who_needs_modules_of_the_other_half_is_refused_before_anything_is_loaded(
    model_type: str,
) -> None:
    with pytest.raises(
        UnsupportedModelError, match=f"'{model_type}' .* needs modules of the other half"
    ):
        read_architecture(shrunk(model_type))


def test_who_needs_more_than_the_hidden_state_of_another_block_is_refused() -> None:
    config = shrunk("glm_moe_dsa")
    config.indexer_types = ["full", "full", "shared"]
    with pytest.raises(
        UnsupportedModelError, match="what block 1 gives beside its hidden state is read after it"
    ):
        read_architecture(config)
