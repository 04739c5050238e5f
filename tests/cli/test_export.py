"""``hsplit export``: PEFT and transformers load what it writes, and it is what it says."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hsplit_flower.adapters import LowRank, import_adapter
from hsplit_flower.adapters.truncation import energy_share
from hsplit_flower.cli import main
from hsplit_flower.methods import MethodState
from tests.cli.exporting import exported, refused
from tests.families import checkpoint, fields
from tests.server.past_runs import LEARNT_RANK, SENT_RANK, learnt, write_run

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT asks for it
)


@pytest.fixture
def base() -> str:
    return str(checkpoint("llama"))


@pytest.fixture
def run(tmp_path: Path, base: str) -> Path:
    return write_run(tmp_path / "run", base=base)


def distance(got: Mapping[str, LowRank], wanted: Mapping[str, LowRank]) -> float:
    """Over all weights, relative; one that is not there is nothing."""
    missing = total = 0.0
    for name, update in wanted.items():
        whole = update.b.double() @ update.a.double()
        have = got[name].b.double() @ got[name].a.double() if name in got else 0 * whole
        missing += float((whole - have).square().sum())
        total += float(whole.square().sum())
    return float(missing / total) ** 0.5


def best_of_rank(updates: Mapping[str, LowRank], rank: int) -> dict[str, LowRank]:
    """Each weight's best approximation, by a singular value decomposition of the whole."""
    best = {}
    for name, update in updates.items():
        u, s, vh = torch.linalg.svd(update.b.double() @ update.a.double(), full_matrices=False)
        best[name] = LowRank(b=(u * s)[:, :rank].float(), a=vh[:rank].float())
    return best


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    batch = {key: value for key, value in fields().items() if key != "labels"}
    return model.eval()(**batch).logits  # type: ignore[no-any-return]


def test_by_itself_it_writes_what_the_run_sent(
    run: Path, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = exported(capsys, run)
    assert f"adapter: {run / 'export'} (" in told
    assert distance(import_adapter(run / "export"), best_of_rank(learnt(base), SENT_RANK)) < 1e-5
    card = (run / "export" / "README.md").read_text(encoding="utf-8")
    for words in (f"adapter for {Path(base).name}", "of the base | 40 |", "adapter | 4 |"):
        assert words in card


@pytest.mark.parametrize("rank", [1, 3, 99])
def test_so_many_leading_directions_of_all_that_was_learnt(
    run: Path, base: str, rank: int, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(capsys, run, "--rank", rank)
    folder = run / f"export-rank-{rank}"
    assert distance(import_adapter(folder), best_of_rank(learnt(base), rank)) < 1e-5
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] == config["lora_alpha"] == min(rank, LEARNT_RANK)


def test_all_of_it_is_what_peft_computes_with(
    run: Path, base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = exported(capsys, run, "--exact", "--out", tmp_path / "whole")
    assert distance(import_adapter(tmp_path / "whole"), learnt(base)) < 1e-6
    with_peft: Any = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "whole")
    )
    by_hand: Any = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for name, update in learnt(base).items():
            by_hand.get_submodule(name).weight.add_(update.dense())
    torch.testing.assert_close(logits(with_peft), logits(by_hand))
    assert re.search(rf"this export +0-{LEARNT_RANK} .* 100 %", told)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.999, 1])
def test_a_share_of_the_energy_is_kept(
    run: Path, base: str, energy: float, capsys: pytest.CaptureFixture[str]
) -> None:
    told = exported(capsys, run, "--energy", energy)
    folder = run / f"export-energy-{energy:g}"
    share = 1 - distance(import_adapter(folder), learnt(base)) ** 2
    assert share >= energy - 1e-6
    (row,) = re.findall(r"this export .* ([\d.]+) %", told)
    assert float(row) == pytest.approx(100 * share, abs=0.05)


def test_the_numbers_told_are_those_of_what_is_written(
    run: Path, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = exported(capsys, run, "--rank", 3)
    whole = learnt(base)
    per_rank = sum(4 * (u.in_features + u.out_features) for u in whole.values() if u.rank)
    weights = len(whole) - 1
    for title, rank in (("sent by the run", 2), ("all that was learnt", 5), ("this export", 3)):
        (row,) = re.findall(rf"{title} +(\S+) +(\d+) +([\d.]+) kB", told)
        assert row[:2] == (f"0-{rank}", str(rank * weights))
        assert float(row[2]) == pytest.approx(rank * per_rank / 1e3, rel=1e-3)
    size = (run / "export-rank-3" / "adapter_model.safetensors").stat().st_size
    (told_size,) = re.findall(
        r"adapter: .* \(([\d.]+) kB, float32\), all weights with rank 3", told
    )
    assert float(told_size) == pytest.approx(size / 1e3, rel=1e-3)


def test_another_type_of_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(capsys, run, "--dtype", "bfloat16")
    tensors = load_file(run / "export" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_merged_model_is_base_and_adapter(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(checkpoint(name))
    run = write_run(tmp_path / "run", base=base)
    told = exported(capsys, run, "--exact", "--merge-into", tmp_path / "model")
    assert f"model: {tmp_path / 'model'} (" in told and "adapter:" not in told
    assert not list(run.glob("export*")), "a model is enough by itself"
    exported(capsys, run, "--exact")
    both: Any = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), str(run / "export-exact")
    )
    assert f"| base model | {name} |" in (tmp_path / "model" / "README.md").read_text("utf-8")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits(merged), logits(both))


def test_model_and_adapter_in_one_go(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, adapter = tmp_path / "model", tmp_path / "adapter"
    kind = ("--dtype", "float16", "--rank", 1)
    told = exported(capsys, run, "--merge-into", model, "--out", adapter, *kind)
    assert f"adapter: {adapter}" in told and f"model: {model}" in told
    for file in (model / "model.safetensors", adapter / "adapter_model.safetensors"):
        assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}


def test_a_pair_of_factors_is_exported_as_it_is_and_cut_by_its_product(
    tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = learnt(base)
    run = write_run(
        tmp_path / "run", base=base, strategy="split-lora", method=MethodState(updates=pair)
    )
    exported(capsys, run, "--exact")
    for name, update in import_adapter(run / "export-exact").items():
        assert torch.equal(update.b, pair[name].b) and torch.equal(update.a, pair[name].a)
    told = exported(capsys, run, "--rank", 2)
    assert distance(import_adapter(run / "export-rank-2"), best_of_rank(pair, 2)) < 1e-5
    wanted = energy_share(best_of_rank(pair, 99), best_of_rank(pair, 2))
    (share,) = re.findall(r"this export .* ([\d.]+) %", told)
    assert float(share) == pytest.approx(100 * wanted, abs=0.05)


def test_what_is_there_is_written_over_when_told_and_only_where_it_is_an_adapter(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(capsys, run, "--rank", 1)
    before = (run / "export-rank-1" / "adapter_config.json").read_bytes()
    assert "or --overwrite if it is an adapter" in refused(capsys, run, "--rank", 1)
    (run / "export-rank-1" / "optimizer.pt").touch()
    out = ("--rank", 2, "--out", run / "export-rank-1")
    exported(capsys, run, *out, "--overwrite")
    assert (run / "export-rank-1" / "optimizer.pt").exists(), "no file of an adapter"
    assert (run / "export-rank-1" / "adapter_config.json").read_bytes() != before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").touch()
    for option in ("--out", "--merge-into"):
        told = refused(capsys, run, option, tmp_path / "thesis", "--overwrite")
        assert "not an empty folder" in told
    assert (tmp_path / "thesis" / "chapter").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rank", "4", "--exact"], "got --rank 4 and --exact: each is another adapter"),
        (["--rank", "4", "--energy", "0.9"], "got --rank 4 and --energy 0.9"),
        (["--rank", "0"], "--rank is 0: 1 or more is wanted"),
        (["--energy", "0"], "--energy is 0: a share above 0"),
        (["--energy", "1.5"], "--energy is 1.5: a share above 0"),
        (["--energy", "nan"], "--energy is nan: a share above 0"),
        (["--evaluate", "restuarants"], "unknown dataset 'restuarants'"),
        (["--out", "SAME", "--merge-into", "SAME"], "two folders are wanted"),
        (["--out", "SAME/in", "--merge-into", "SAME"], "none of which is in the other"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    run: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.replace("SAME", str(run / "same")) for each in arguments]
    before = sorted(run.iterdir())
    assert says in refused(capsys, run, *given)
    assert sorted(run.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [(["--dtype", "int8"], "'bfloat16'"), (["--evaluation-examples", "0"], "x>=1")],
)
def test_a_mistyped_option_is_told_with_what_there_is(
    run: Path, arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), *arguments]) == 2
    assert nearest in capsys.readouterr().err


def test_a_run_without_a_state_or_with_nothing_in_it_is_refused(
    run: Path, tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "state.safetensors").unlink()
    assert "has no state.safetensors" in refused(capsys, run)
    empty = {name: update.head(0) for name, update in learnt(base).items()}
    nothing = write_run(tmp_path / "nothing", base=base, method=MethodState(updates=empty))
    assert "every weight of its adapter has rank 0" in refused(capsys, nothing)


def test_a_quantised_base_takes_an_adapter_beside_it_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.splitting.checkpoints import single

    base = single("llama", tmp_path)
    run = write_run(tmp_path / "run", base=str(base))
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    told = refused(capsys, run, "--merge-into", tmp_path / "model")
    assert "nothing is ever merged into a quantised weight" in told
    assert not (tmp_path / "model").exists()
