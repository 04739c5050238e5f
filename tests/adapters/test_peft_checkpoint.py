"""The global adapter as a standard PEFT checkpoint: every reader reads ours, and we read PEFT's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from hsplit_flower.adapters import (
    LowRank,
    export_adapter,
    import_adapter,
)
from hsplit_flower.errors import AdapterError
from hsplit_flower.splitting import read_architecture
from tests.adapters.peft_models import CONFIGS, IDS, with_updates
from tests.families import random_model, save
from tests.reference.unsplit import peft_calls_old_names
from tests.tolerances import assert_same


def _updates(name: str) -> dict[str, LowRank]:
    """Another rank for every weight, 0 among them; block 11's are not block 1's."""
    generator = torch.Generator().manual_seed(3)
    updates = {}
    for index, weight in enumerate(read_architecture(CONFIGS[name]).weights):
        rank = index % 6
        updates[weight.name] = LowRank(
            b=0.1 * torch.randn(weight.out_features, rank, generator=generator),
            a=torch.randn(rank, weight.in_features, generator=generator),
        )
    return updates


def _loaded(base: PreTrainedModel, folder: Path) -> PeftModel:
    with peft_calls_old_names():
        return PeftModel.from_pretrained(base, str(folder)).eval()


def _equal(got: dict[str, LowRank], wanted: dict[str, LowRank]) -> bool:
    return got.keys() == wanted.keys() and all(
        torch.equal(got[n].b, wanted[n].b) and torch.equal(got[n].a, wanted[n].a) for n in wanted
    )


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_peft_reads_what_we_write(name: str, tmp_path: Path) -> None:
    """More than ten blocks, so that patterns of block 1 could also match block 11."""
    base = save(random_model(CONFIGS[name]), tmp_path / "base")
    updates = _updates(name)
    export_adapter(
        updates, tmp_path / "adapter", base_model=str(base), is_transposed=name == "gpt2"
    )
    peft_model = _loaded(random_model(CONFIGS[name]), tmp_path / "adapter")
    wanted = with_updates(random_model(CONFIGS[name]), updates)(IDS).logits
    assert_same(peft_model(IDS).logits, wanted)
    assert (wanted - random_model(CONFIGS[name])(IDS).logits).abs().max() > 0.1
    layers = {n: m for n, m in peft_model.base_model.model.named_modules() if hasattr(m, "lora_A")}
    ranks = {n: layer.lora_A["default"].out_features for n, layer in layers.items()}
    assert ranks == {n: 5 for n, update in updates.items() if update.rank}
    assert {layer.scaling["default"] for layer in layers.values()} == {1.0}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_exported_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    updates = _updates(name)
    folder = export_adapter(updates, tmp_path / "new", base_model="x", is_transposed=False)
    assert folder == tmp_path / "new"
    assert _equal(import_adapter(folder), {n: u for n, u in updates.items() if u.rank})


def test_exporting_again_replaces_what_was_there(tmp_path: Path) -> None:
    updates = _updates("llama")
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False)
    name = next(n for n, u in updates.items() if u.rank)
    few = {name: updates[name]}
    export_adapter(few, tmp_path, base_model="x", is_transposed=False)
    assert _equal(import_adapter(tmp_path), few)


def test_a_part_of_an_update_can_be_exported(tmp_path: Path) -> None:
    """It is a view, and not contiguous."""
    updates = {"x.0.up": LowRank(b=torch.randn(5, 4), a=torch.randn(4, 3)).head(2)}
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False)
    assert _equal(import_adapter(tmp_path), updates)


def test_the_settings_name_the_base_and_one_rank(tmp_path: Path) -> None:
    updates = _updates("llama")
    export_adapter(updates, tmp_path, base_model="owner/base", is_transposed=False, revision="5f0c")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "owner/base"
    assert settings["revision"] == "5f0c"
    assert (settings["peft_type"], settings["task_type"]) == ("LORA", "CAUSAL_LM")
    assert settings["r"] == settings["lora_alpha"] == 5
    assert not settings["rank_pattern"] and not settings["alpha_pattern"]
    assert set(settings["target_modules"]) == {n for n, u in updates.items() if u.rank}


def test_a_base_without_a_revision_has_the_commit_that_is_here_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, home = "0123456789" * 4, tmp_path / "models--owner--base"
    (home / "snapshots" / commit).mkdir(parents=True)
    (home / "snapshots" / commit / "config.json").touch()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    wanted = {"owner/base": commit, "owner/other": None, "x": None, "no such thing": None}
    for base, revision in (wanted | {str(tmp_path): None}).items():
        export_adapter(_updates("llama"), tmp_path / "a", base_model=base, is_transposed=False)
        settings = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
        assert settings["revision"] == revision


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_by_peft(dtype: torch.dtype, tmp_path: Path) -> None:
    updates = _updates("llama")
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False, dtype=dtype)
    assert {t.dtype for t in load_file(tmp_path / "adapter_model.safetensors").values()} == {dtype}
    peft_model = _loaded(random_model(CONFIGS["llama"]), tmp_path)
    wanted = with_updates(random_model(CONFIGS["llama"]), updates)(IDS).logits
    assert_same(peft_model(IDS).logits, wanted, dtype=dtype)


def test_a_card_is_written_where_there_is_one(tmp_path: Path) -> None:
    for card in ("", "# Card ö\n"):
        export_adapter(_updates("llama"), tmp_path, base_model="x", is_transposed=False, card=card)
        assert (tmp_path / "README.md").exists() == bool(card)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "# Card ö\n"


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    export_adapter(_updates("llama"), tmp_path, base_model="x", is_transposed=False)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"notes.txt", "adapter_config.json", "adapter_model.safetensors"}


def test_a_folder_is_never_a_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen between any two moves, it holds the old adapter, the new one, or none that is read."""
    new = _updates("llama")
    old = {name: LowRank(b=update.b + 1, a=update.a) for name, update in new.items() if update.rank}
    export_adapter(old, tmp_path, base_model="x", is_transposed=False)
    replace, unlink, seen = Path.replace, Path.unlink, []

    def note() -> None:
        try:
            seen.append(next(iter(import_adapter(tmp_path).items())))
        except AdapterError as error:
            assert "no readable adapter_config.json" in str(error)

    def replaced(self: Path, target: Path) -> Path:
        note()
        moved = replace(self, target)
        note()
        return moved

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        note()
        unlink(self, missing_ok)
        note()

    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(Path, "unlink", unlinked)
    export_adapter(new, tmp_path, base_model="x", is_transposed=False)
    assert len(seen) == 2
    for (name, got), wanted in zip(seen, (old, new), strict=True):
        assert torch.equal(got.b, wanted[name].b)


def test_what_cannot_be_written_leaves_the_former_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"x.0.up": LowRank(b=torch.ones(5, 1), a=torch.ones(1, 3))}
    export_adapter(few, tmp_path, base_model="x", is_transposed=False)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("hsplit_flower.adapters.peft_checkpoint.save_tensors", full)
    with pytest.raises(OSError, match="full"):
        export_adapter(_updates("llama"), tmp_path, base_model="y", is_transposed=False)
    assert _equal(import_adapter(tmp_path), few)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_an_adapter_without_ranks_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="every weight of the adapter has rank 0"):
        export_adapter(
            {"x": LowRank.zeros(3, 2)}, tmp_path / "a", base_model="x", is_transposed=False
        )
    assert not (tmp_path / "a").exists()


def test_half_precision_factors_are_read_as_float32(tmp_path: Path) -> None:
    updates = _updates("llama")
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False)
    file = tmp_path / "adapter_model.safetensors"
    save_file({k: t.bfloat16() for k, t in load_file(file).items()}, file)
    for name, update in import_adapter(tmp_path).items():
        assert torch.equal(update.b, updates[name].b.bfloat16().float())


def _remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def _setting(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def _tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return rewrite


def _pickled(folder: Path) -> None:
    torch.save({}, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def _damaged(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"damaged")


KEY = "base_model.model.x.0.up.lora_"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_setting(use_dora=True), r"adapter_config\.json is not plain LoRA[^\0]*use_dora is True"),
        (_setting(r=None), r"adapter_config\.json: r is missing"),
        (_setting(peft_type="IA3"), "not plain LoRA: its peft_type is 'IA3'"),
        (lambda folder: (folder / "adapter_config.json").write_text("[1]"), "it is a list"),
        (_remove("adapter_config.json"), r"no readable adapter_config\.json"),
        (_remove("adapter_model.safetensors"), r"no readable adapter_model\.safetensors"),
        (_pickled, "pickle files are refused"),
        (_damaged, r"no readable adapter_model\.safetensors"),
        (_tensors(lambda t: t.pop(f"{KEY}A.weight")), "'x.0.up' lacks its factor.*lora_A"),
        (_tensors(lambda t: t.pop(f"{KEY}B.weight")), "'x.0.up' lacks its factor.*lora_B"),
        (
            _tensors(lambda t: t.update({f"{KEY}magnitude_vector": torch.ones(5)})),
            "unexpected tensor 'x.0.up.lora_magnitude_vector'",
        ),
        (
            _tensors(lambda t: t.update({f"{KEY}A.weight": torch.ones(3, 3)})),
            r"lora_A \[3, 3\], but its rank is 4",
        ),
    ],
)
def test_what_is_more_or_less_than_plain_lora_is_refused(
    break_it: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    updates = {"x.0.up": LowRank(b=torch.randn(5, 4), a=torch.randn(4, 3))}
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False)
    break_it(tmp_path)
    with pytest.raises(AdapterError, match=message):
        import_adapter(tmp_path)


def test_a_configuration_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match=r"no readable adapter_config\.json"):
        import_adapter(tmp_path)
