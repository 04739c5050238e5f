"""Every causal family of transformers, tiny and random: equal at every cut, or refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hsplit_flower.costs import Workload, trace_costs
from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Parts, load_half, read_architecture
from tests.every_family import EVERY_FAMILY, class_of, small_config
from tests.families import fields, random_model, save

# Of each kind some are always tried; other tests have more of them.
QUICK = {
    "hybrid": ("bamba", "granitemoehybrid", "lfm2_moe"),
    "with towers": ("gemma4", "moss_transcribe_diarize", "qwen3_5_moe"),
    "plain": ("deepseek_v3", "glm_moe_dsa", "minicpm3", "xlstm", "youtu"),
    "refused": ("cpmant", "deepseek_v4", "git", "inkling2_text", "xlnet"),
}
_ALWAYS = {name for names in QUICK.values() for name in names}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(name, marks=() if name in _ALWAYS else pytest.mark.long)
        for name in EVERY_FAMILY
    ],
)
def test_a_family_is_equal_at_every_cut_or_refused_by_name(
    model_type: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """With ``--junitxml`` the outcomes can be counted."""
    config = small_config(model_type)
    batch = fields("right")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    kind = class_of(config)
    folder = str(save(random_model(config, kind=kind), tmp_path))
    # What transformers makes of these files: of some families it loads other ties than it saved.
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    try:
        with torch.no_grad():
            wanted = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    except Exception as error:
        pytest.skip(f"the tiny {model_type} does not run itself: {str(error)[:100]}")
    try:
        found = read_architecture(config)
    except UnsupportedModelError as refused:
        assert f"{config.model_type!r} cannot be split: " in str(refused)
        record_property("outcome", "refused")
        return
    for cut in range(1, found.num_blocks):
        client = load_half(folder, Parts.of_client(cut, keeps_labels=False))
        worker = load_half(folder, Parts.of_worker(cut, found.num_blocks))
        with torch.no_grad():
            got = worker.logits(client.embed(ids, mask), mask, start=cut)
        assert bool((got == wanted)[mask.bool()].all())
    costs = trace_costs(config, Workload(batch_size=2, sequence_length=9))
    assert all(one.forward_flops > 0 for one in costs.passes)
    record_property("outcome", "equal")
