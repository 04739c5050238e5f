"""The server's own evaluation equals that of plain transformers with the adapter added."""

import math

import pytest
import torch
from flwr.app import ArrayRecord
from transformers import AutoModelForCausalLM

from hsplit_flower.adapters import to_state_dict
from hsplit_flower.errors import DataError
from hsplit_flower.server import ServerEvaluation
from hsplit_flower.settings import Model
from tests.families import FAMILIES, VOCABULARY, checkpoint, fields, packed
from tests.reference.unsplit import base_model
from tests.rounds import global_update

BATCHES = [fields("unpadded", 5), fields("right", 6), fields("left", 7), packed(8)]


def plain_loss(family: str, *, with_update: bool) -> tuple[float, int]:
    """Summed loss and number of targets, from the loss that transformers computes."""
    updates = {n: u.dense() for n, u in global_update(family).items()} if with_update else {}
    model = base_model(family, updates).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in BATCHES:
            targets = int((batch["labels"][:, 1:] != -100).sum())
            total += float(model(**batch, use_cache=False).loss) * targets
            count += targets
    return total, count


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("with_update", [False, True])
def test_loss_and_perplexity(family: str, with_update: bool) -> None:
    evaluate = ServerEvaluation(
        Model(name=str(checkpoint(family)), attention=FAMILIES[family].attention or ""),
        lambda: iter(BATCHES),
        device="cpu",
    )
    updates = global_update(family) if with_update else {}
    arrays = ArrayRecord(to_state_dict(updates))
    total, count = plain_loss(family, with_update=with_update)
    for server_round in (0, 1):  # a fresh pass over the examples each time
        metrics = evaluate(server_round, arrays)
        assert metrics["num-tokens"] == count
        assert metrics["loss"] == pytest.approx(total / count, rel=1e-5)
        assert metrics["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
    assert evaluate.evaluate(updates).loss_sum == pytest.approx(total, rel=1e-5)


def test_the_adapter_of_one_call_does_not_stay_for_the_next() -> None:
    evaluate = ServerEvaluation(str(checkpoint("llama")), lambda: BATCHES, device="cpu")
    before = evaluate(0, ArrayRecord())["loss"]
    changed = evaluate(1, ArrayRecord(to_state_dict(global_update("llama"))))["loss"]
    assert abs(changed - before) > 1e-3
    assert evaluate(2, ArrayRecord())["loss"] == before


def test_a_base_in_half_precision() -> None:
    evaluate = ServerEvaluation(
        Model(name=str(checkpoint("llama")), dtype="bfloat16"), lambda: BATCHES, device="cpu"
    )
    arrays = ArrayRecord(to_state_dict(global_update("llama")))
    total, count = plain_loss("llama", with_update=True)
    assert evaluate(0, arrays)["loss"] == pytest.approx(total / count, rel=0.05)
    base = AutoModelForCausalLM.from_pretrained(checkpoint("llama"))
    assert base.dtype is torch.float32, "it was the evaluation that chose the type"


def test_batches_are_checked_as_clients_are() -> None:
    good = fields("unpadded", 5)
    given = {name: tensor.int() for name, tensor in good.items()} | {"idx": ["a", "b", "c"]}
    evaluate = ServerEvaluation(str(checkpoint("llama")), lambda: [given], device="cpu")
    plain = ServerEvaluation(str(checkpoint("llama")), lambda: [good], device="cpu")
    assert evaluate(0, ArrayRecord()) == plain(0, ArrayRecord())
    for name in ("input_ids", "labels"):
        given = good | {name: good[name] + VOCABULARY}
        with pytest.raises(DataError, match=r"batch 1: .*in \[0, "):
            evaluate(0, ArrayRecord())
    given = {name: tensor for name, tensor in good.items() if name != "attention_mask"}
    with pytest.raises(DataError, match="batch 1: has no"):
        evaluate(0, ArrayRecord())
