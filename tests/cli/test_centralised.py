"""``hsplit centralised``: plain LoRA as PEFT trains it, left as a run's folder."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from hsplit_flower.adapters import import_adapter
from hsplit_flower.adapters.round_start import weight_generator
from hsplit_flower.cli import main
from hsplit_flower.data import batches, encode_examples, load_examples, pad_token_id, thinned
from hsplit_flower.metrics import TokenLoss, token_loss
from hsplit_flower.splitting import Checkpoint, load_tokenizer, locate, read_architecture
from hsplit_flower.types import Scaling
from tests.reference.unsplit import Factors, train, with_peft

MODEL, RATE, RANK, STEPS, BATCH = "llama-tiny", 5e-3, 3, 2, 4
SMALL = ["--model", MODEL, "--rank", str(RANK), "--steps", str(STEPS), "--batch-size", str(BATCH)]
OPTIONS = [*SMALL, "--learning-rate", str(RATE), "--evaluation-examples", "4", "--device", "cpu"]


def whole_model() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(locate(MODEL), dtype=torch.float32)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_it_trains_as_peft_does_and_measures_what_it_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["centralised", *OPTIONS, "--out", str(folder)]) == 0
    told = capsys.readouterr().out
    tokenizer = load_tokenizer(MODEL)
    encoded = {
        split: encode_examples(load_examples("restaurants", split), tokenizer, max_length=192)
        for split in ("train", "dev")
    }
    pad_id = pad_token_id(tokenizer)
    first: Factors = {}
    for weight in read_architecture(Checkpoint(source=MODEL).config()).weights:
        bound = weight.in_features**-0.5
        a = torch.empty(RANK, weight.in_features)
        a.uniform_(-bound, bound, generator=weight_generator(0, weight.name))
        first[weight.name] = torch.zeros(weight.out_features, RANK), a
    model = with_peft(whole_model(), first, Scaling())
    given = batches(encoded["train"], BATCH, steps=STEPS, seed=0, pad_id=pad_id)
    steps = train(model, given, learning_rate=RATE, weight_decay=0.0)
    scale = Scaling().of(RANK)
    for name, update in import_adapter(folder / "adapter").items():
        wanted = scale * steps[-1].factors[f"{name}.b"] @ steps[-1].factors[f"{name}.a"]
        torch.testing.assert_close(update.dense(), wanted, rtol=1e-3, atol=1e-5)

    before, after = (
        json.loads(line)["perplexity"]
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    )
    assert f"perplexity {before:.4f} -> {after:.4f}" in told
    adapted = PeftModel.from_pretrained(whole_model(), str(folder / "adapter")).eval()
    total = TokenLoss()
    with torch.no_grad():
        for batch in batches(thinned(encoded["dev"], 4), BATCH, pad_id=pad_id):
            labels = batch.pop("labels")
            total += token_loss(adapted(**batch, use_cache=False).logits, labels)
    assert after == pytest.approx(total.perplexity, rel=1e-4)


def test_a_folder_with_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "adapter").mkdir()
    assert main(["centralised", *OPTIONS, "--out", str(tmp_path)]) == 1
    assert "holds a run already" in capsys.readouterr().err
