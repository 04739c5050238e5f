"""The base that an adapter is evaluated on."""

from pathlib import Path

import pytest
import torch

from hsplit_flower.adapters import export_adapter
from hsplit_flower.cli.adapter_source import AdapterSource
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
