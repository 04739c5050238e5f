"""``hsplit evaluate``: what it writes, measures and prints, and how it goes on."""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hsplit_flower.adapters import import_adapter
from hsplit_flower.cli import main
from hsplit_flower.cli.beam_search import BeamSearch
from hsplit_flower.data import (
    Example,
    batches,
    encode_examples,
    format_prompt,
    load_examples,
    thinned,
)
from hsplit_flower.server import ServerEvaluation
from tests.cli.evaluating import arguments, evaluated, refused, report, rows, write_adapter
from tests.families import checkpoint
from tests.server.past_runs import write_run

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT asks for it
)
NO_METRICS = "--no-metrics"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("learnt") / "adapter")


@torch.no_grad()
def searched(base: Path, adapter: Path, prompt: str, **options: Any) -> str:
    """What transformers writes for one prompt alone."""
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(whole, str(adapter))
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    mask = torch.ones_like(ids)
    out = model.eval().generate(input_ids=ids, attention_mask=mask, do_sample=False, **options)
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()  # type: ignore[no-any-return]


def test_texts_are_those_of_transformers_beam_search_for_each_input_alone(
    adapter: Path, llama_tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--no-repeat-ngram", 3, "--length-penalty", 1.5, "--out", tmp_path)
    evaluated(capsys, adapter, NO_METRICS, *more)
    settings, *texts = rows(tmp_path)
    assert settings["settings"]["beam"] == 2
    assert len(texts) == 6
    options = {"num_beams": 2, "no_repeat_ngram_size": 3, "length_penalty": 1.5}
    for row in texts:
        prompt = format_prompt(Example(meaning=row["input"], reference="-"))
        alone = searched(llama_tiny, adapter, prompt, max_new_tokens=8, **options)
        assert row["hypothesis"] == alone


def test_a_text_ends_where_the_model_says_that_an_answer_ends(
    adapter: Path, llama_tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here at any token."""
    base = shutil.copytree(llama_tiny, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(llama_tiny)
    ends = json.dumps({"eos_token_id": list(range(len(tokenizer)))})
    (base / "generation_config.json").write_text(ends, encoding="utf-8")
    more = ("--model", base, "--num-examples", 2, "--beam", 1, "--out", tmp_path)
    evaluated(capsys, adapter, NO_METRICS, *more)
    _, *texts = rows(tmp_path)
    assert len(texts) == 2
    for row in texts:
        assert len(tokenizer(row["hypothesis"], add_special_tokens=False)["input_ids"]) <= 1


def test_perplexity_is_that_of_the_app(
    adapter: Path, tmp_path: Path, llama_tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = evaluated(capsys, adapter, NO_METRICS, "--split", "dev", "--out", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(llama_tiny)
    examples = load_examples("restaurants", "dev")
    assert len({each.meaning for each in examples}) == len(examples)
    encoded = encode_examples(thinned(examples, 6), tokenizer, max_length=256)
    app = ServerEvaluation("llama-tiny", partial(batches, encoded, 4, pad_id=0), device="cpu")
    wanted = app.evaluate(import_adapter(adapter))
    found = report(tmp_path)
    assert found["perplexity"] == pytest.approx(wanted.perplexity, rel=1e-4)
    assert found["num-tokens"] == wanted.num_tokens
    assert f"{found['perplexity']:.4f}" in told
    assert found["metrics"] is None and "BLEU" not in told


@pytest.mark.long
@pytest.mark.skipif(shutil.which("java") is None, reason="the metrics need Java")
def test_the_five_metrics_are_printed_and_written(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = evaluated(capsys, adapter, "--out", tmp_path)
    metrics = report(tmp_path)["metrics"]
    header, _, figures = told.splitlines()[:3]
    assert header.split() == ["perplexity", "BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"]
    assert list(metrics) == ["bleu", "nist", "meteor", "rouge-l", "cider"]
    assert figures.split()[1:] == [f"{score:.4f}" for score in metrics.values()]
    assert f"6 inputs with 6 references: restaurants, test\ntexts and scores: {tmp_path}" in told


def test_interrupted_it_goes_on_and_asks_for_nothing_twice(
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluated(capsys, adapter, NO_METRICS, "--out", tmp_path / "at once")
    asked: list[tuple[int, ...]] = []
    may_ask = 2
    real = BeamSearch.texts

    def counted(search: BeamSearch, prompts: Sequence[tuple[int, ...]]) -> list[str]:
        nonlocal may_ask
        if not may_ask:
            raise KeyboardInterrupt
        may_ask -= 1
        asked.extend(prompts)
        return real(search, prompts)

    monkeypatch.setattr(BeamSearch, "texts", counted)
    out = ("--out", tmp_path / "in two")
    assert main(arguments(adapter, NO_METRICS, *out)) == 130
    told = f"interrupted; the same command goes on with the texts that are in {out[1]}"
    assert f"hsplit: {told}" in capsys.readouterr().err
    assert len(rows(tmp_path / "in two")) == 1 + 4
    may_ask = 99
    evaluated(capsys, adapter, NO_METRICS, *out)
    assert len(asked) == len(set(asked)) == 6
    whole, parted = (tmp_path / each / "hypotheses.jsonl" for each in ("at once", "in two"))
    assert whole.read_bytes() == parted.read_bytes()
    evaluated(capsys, adapter, NO_METRICS, *out)
    assert len(asked) == 6, "all is there, and nothing is asked for"
    evaluated(capsys, adapter, NO_METRICS, *out, "--num-examples", 8, "--batch-size", 3)
    assert len(asked) == len(set(asked)), "more inputs of the same settings are gone on to"


def test_other_settings_are_refused_by_name(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(capsys, adapter, NO_METRICS, "--num-examples", 1, "--out", tmp_path)
    told = refused(capsys, adapter, NO_METRICS, "--out", tmp_path, "--beam", 3)
    assert "other settings: beam was 2 and is 3 now. Give the same again to go on, or an" in told
    other = write_adapter(tmp_path / "other", size=0.001)
    told = refused(capsys, other, NO_METRICS, "--out", tmp_path, "--split", "dev")
    assert "adapter was '" in told and "split was 'test' and is 'dev' now" in told


def test_a_runs_folder_and_its_adapters_are_taken_with_the_runs_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", base="llama-tiny")
    write_adapter(run / "adapter")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["prompt"] = "brackets"
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    few = (NO_METRICS, "--num-examples", 1)
    assert f"scores: {run / 'evaluation-test'}" in evaluated(capsys, run, *few)
    evaluated(capsys, run / "adapter", *few)
    evaluated(capsys, run, *few, "--prompt", "plain", "--out", tmp_path / "plain")
    places = (run, run / "adapter")
    first, second = (rows(place / "evaluation-test") for place in places)
    assert first == second
    assert first[0]["settings"]["prompt"] == "brackets"
    assert rows(tmp_path / "plain")[0]["settings"]["prompt"] == "plain"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--length-penalty", "nan"], "--length-penalty is nan: a number is wanted"),
        (["--prompt", "chat"], "--prompt is 'chat': one of plain, brackets is wanted"),
        (["--device", "abacus"], "--device is 'abacus': one that torch can use"),
        (["--dataset", "restuarants"], "unknown dataset 'restuarants'"),
        (["--model", "lama-tiny"], "did you mean 'llama-tiny'?"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    adapter: Path, tmp_path: Path, more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, adapter, NO_METRICS, "--out", tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_an_adapter_and_pickles_are_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, tmp_path, NO_METRICS)
    assert "no adapter_config.json" in told and "of a PEFT adapter or of a run" in told
    shutil.copy(adapter / "adapter_config.json", tmp_path)
    (tmp_path / "adapter_model.bin").touch()
    assert "(pickle files are refused)" in refused(capsys, tmp_path, NO_METRICS)


def test_an_adapter_of_another_base_is_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(checkpoint("llama"), base)
    for file in Path("hsplit_flower/bases/llama-tiny").resolve().glob("tokenizer*.json"):
        shutil.copy(file, base)
    out = ("--out", tmp_path / "out", "--prompt", "plain")
    # The toy has 24 positions, in which no prompt and reference fit.
    told = refused(capsys, adapter, NO_METRICS, *out, "--model", base)
    assert "max_length = 24" in told
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 256
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    told = refused(capsys, adapter, NO_METRICS, *out, "--model", base)
    assert f"does not fit the base {str(base)!r}" in told and "as --model" in told
    assert not (tmp_path / "out").exists()


def test_an_adapter_with_a_tensor_missing_is_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(adapter, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors[next(iter(tensors))]
    save_file(tensors, file)
    told = refused(capsys, tmp_path / "adapter", NO_METRICS)
    assert "does not fit the base 'llama-tiny'" in told and "missing adapter keys" in told


def test_without_java_it_says_so_before_it_loads_or_writes(
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = refused(capsys, adapter, "--out", tmp_path / "out")
    assert "no program 'java'" in told and "--no-metrics" in told
    assert not (tmp_path / "out").exists()
