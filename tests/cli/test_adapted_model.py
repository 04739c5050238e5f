"""What a base computes with adapters beside its weights: of a run, and of a client's own on top."""

from pathlib import Path

import pytest
import torch

from hsplit_flower.adapters import LowRank, export_adapter
from hsplit_flower.cli.adapted_model import load_adapted
from hsplit_flower.cli.adapter_source import AdapterSource
from hsplit_flower.errors import AdapterError
from hsplit_flower.server import ServerEvaluation
from hsplit_flower.settings import Model
from tests.families import checkpoint, fields
from tests.server.past_runs import learnt


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_an_adapter_of_a_quantised_base_is_evaluated_on_that(kind: str, tmp_path: Path) -> None:
    """With transposed matrices, which are not transposed any more once they are quantised."""
    base = str(checkpoint("gpt2"))
    updates = learnt(base, rank=2)
    folder = export_adapter(updates, tmp_path, base_model=base, is_transposed=True)
    model = Model(name=base, dtype=kind, computing_dtype="float32")
    source = AdapterSource(folder=folder, base=model, prompt="", sequence_length=None)
    batch = fields("right")
    with torch.no_grad():
        got = source.load("cpu")(**batch).loss.item()
    evaluation = ServerEvaluation(model, lambda: [batch], device="cpu")
    assert got == pytest.approx(evaluation.evaluate(updates).mean, rel=1e-5)
    assert got != pytest.approx(evaluation.evaluate({}).mean, rel=1e-3)


def of_the_first_block(updates: dict[str, LowRank]) -> dict[str, LowRank]:
    first = min(int(name.split(".")[2]) for name in updates)
    return {
        name: update.scale(-2.0)
        for name, update in updates.items()
        if int(name.split(".")[2]) == first
    }


@pytest.mark.parametrize(
    ("name", "numbers"), [("llama", "float32"), ("gpt2", "float32"), ("gpt2", "nf4")]
)
@torch.no_grad()
def test_a_client_s_own_adapter_is_added_as_peft_adds_the_sum_of_both(
    name: str, numbers: str, tmp_path: Path
) -> None:
    base = str(checkpoint(name))
    updates = learnt(base, rank=2)
    own = of_the_first_block(learnt(base, rank=3))
    both = {key: one + own[key] if key in own else one for key, one in updates.items()}
    run, client, composed = (
        export_adapter(content, tmp_path / str(at), base_model=base, is_transposed=name == "gpt2")
        for at, content in enumerate((updates, own, both))
    )
    quantised = {"dtype": numbers, "computing_dtype": "float32"} if numbers == "nf4" else {}
    model, batch = Model(name=base, **quantised), fields("right")
    got = load_adapted(model, "cpu", adapter=run, personal=client)(**batch).logits
    wanted = load_adapted(model, "cpu", adapter=composed)(**batch).logits
    without = load_adapted(model, "cpu", adapter=run)(**batch).logits
    assert torch.allclose(got, wanted, atol=1e-5)
    assert not torch.allclose(got, without, atol=1e-2)


def test_a_client_s_own_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    base, other = str(checkpoint("llama")), str(checkpoint("gpt2"))
    run = export_adapter(learnt(base), tmp_path / "run", base_model=base, is_transposed=False)
    own = export_adapter(learnt(other), tmp_path / "own", base_model=other, is_transposed=True)
    with pytest.raises(AdapterError, match=r"own does not fit the base"):
        load_adapted(Model(name=base), "cpu", adapter=run, personal=own)
