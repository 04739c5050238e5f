"""Where a client keeps an adapter of its own, and what it adds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from hsplit_flower.adapters import LowRank, export_adapter
from hsplit_flower.client.goes_on_top import OnTopOf, what_is_unsure
from hsplit_flower.client.half_cache import HalfKey
from hsplit_flower.client.personal_adapter import PersonalAdapter
from hsplit_flower.errors import AdapterError, ConfigError, StorageError
from hsplit_flower.splitting import Parts

KEY = HalfKey(
    model="llama-tiny",
    parts=Parts.of_client(1, keeps_labels=False),
    revision=None,
    dtype=torch.float32,
    device="cpu",
    attention=None,
)


def update(seed: int, rank: int = 2) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        b=torch.randn(4, rank, generator=generator), a=torch.randn(rank, 3, generator=generator)
    )


def kept(
    own: PersonalAdapter,
    updates: Mapping[str, LowRank],
    *,
    on: Mapping[str, LowRank] | None = None,
) -> None:
    """Have it kept as trained on top of ``on``, by a client that has two weights."""
    note = OnTopOf.of(on or {}, ("a", "b"), server_round=3)
    own.write(updates, KEY, is_transposed=False, on_top_of=note)


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        ({"personal-adapter": "/own/place", "data": "/d/x.jsonl"}, "/own/place"),
        ({"personal-adapter": "~/place"}, "/home/of/client/place"),
        ({"data": "/d/x.jsonl"}, "/d/x.jsonl-personal-adapter"),
        ({"data": "/d/x.csv"}, "/d/x.csv-personal-adapter"),
        ({"data": "~/x.csv"}, "/home/of/client/x.csv-personal-adapter"),
        ({"data": "owner/set"}, "owner/set-personal-adapter"),
        ({"partition-id": 0}, "personal-adapters/host-0"),
    ],
)
def test_it_is_where_the_node_says_or_beside_its_data(
    config: dict[str, object], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/of/client")
    assert PersonalAdapter.of_node(config, name="host/0").folder == Path(folder)


@pytest.mark.parametrize("name", ["../../etc", "..", "/etc", "a/../b"])
def test_a_name_leads_to_no_other_folder(name: str) -> None:
    folder = PersonalAdapter.of_node({}, name=name).folder
    assert folder.parent == Path("personal-adapters") and ".." not in folder.parts


def test_what_is_kept_comes_on_top_of_the_global_update(tmp_path: Path) -> None:
    own = PersonalAdapter(folder=tmp_path / "own")
    kept(own, {"a": update(1)})
    kept(own, {"a": update(2), "b": update(3, rank=1)})
    # A round may have left a weight without any update.
    total = own.added_to({"a": update(4), "c": update(6)})
    for name, wanted in (
        ("a", update(4).dense() + update(2).dense()),
        ("b", update(3, rank=1).dense()),
        ("c", update(6).dense()),
    ):
        torch.testing.assert_close(total[name].dense(), wanted)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="personal-adapter = 7: the path of a folder"):
        PersonalAdapter.of_node({"personal-adapter": 7}, name="x")
    (tmp_path / "file").touch()
    taken = PersonalAdapter(folder=tmp_path / "file")
    with pytest.raises(StorageError, match="name another folder as personal-adapter"):
        kept(taken, {"a": update(1)})
    with pytest.raises(AdapterError, match=r"no readable adapter_config\.json"):
        PersonalAdapter(folder=tmp_path).added_to({})


def adapter_of(folder: Path, updates: Mapping[str, LowRank], **how: Any) -> Path:
    return export_adapter(updates, folder, base_model="llama-tiny", is_transposed=False, **how)


def test_it_goes_on_top_of_the_adapter_that_it_was_trained_on(tmp_path: Path) -> None:
    """A file may be rounded, have other factors of the same products, and more weights."""
    sent = {"a": update(4), "b": update(5, rank=1).scale(1e-6), "above": update(6)}
    own = PersonalAdapter(folder=tmp_path / "own")
    kept(own, {"a": update(1)}, on=sent)
    shared_out = {name: LowRank(b=one.b * 64, a=one.a / 64) for name, one in sent.items()}
    for name, written, dtype in (
        ("same", sent, torch.float32),
        ("shared-out", shared_out, torch.float32),
        ("float16", sent, torch.float16),
        ("bfloat16", sent, torch.bfloat16),
    ):
        folder = adapter_of(tmp_path / name, written, dtype=dtype)
        assert not what_is_unsure(own.folder, folder)
    assert own.checked_and_added_to(sent).keys() == sent.keys()


def test_it_does_not_go_on_top_of_another(tmp_path: Path) -> None:
    run, sent = tmp_path / "run", {"a": update(4)}
    own = PersonalAdapter(folder=tmp_path / "own")
    kept(own, {"a": update(1)}, on=sent)
    others = {"larger": {"a": update(4).scale(1.03)}, "more": {**sent, "b": update(5).scale(0.1)}}
    for name, content in others.items():
        with pytest.raises(
            AdapterError, match=r"after round 3 of its run, and the one in .* by about"
        ):
            what_is_unsure(own.folder, adapter_of(tmp_path / name, content))
        with pytest.raises(AdapterError, match="another client or another run has written"):
            own.checked_and_added_to(content)
    with pytest.raises(
        AdapterError, match="which is given, differs from that by about 100% of its"
    ):
        what_is_unsure(own.folder, None)
    # Beside the one that is wanted, in the folder of its run.
    adapter_of(run / "adapter", sent)
    with pytest.raises(AdapterError, match="is given as the global one and as a client's own"):
        what_is_unsure(run / "adapter", run / "adapter")
    beside = adapter_of(run / "adapter-rank-1", {"a": update(4).head(1)})
    assert "it is one of the same run; the more they differ, the worse it goes" in what_is_unsure(
        own.folder, beside
    )


def test_what_notes_nothing_cannot_be_checked(tmp_path: Path) -> None:
    own = adapter_of(tmp_path / "own", {"a": update(1)})
    run = adapter_of(tmp_path / "run", {"a": update(2)})
    assert f"whether that is the one in {run} cannot be checked" in what_is_unsure(own, run)
    assert PersonalAdapter(folder=own).checked_and_added_to({"a": update(2)})
    adapter_of(own, {"a": update(1)}, notes={"on-top-of": "7"})
    with pytest.raises(AdapterError, match="notes as 'on-top-of' cannot be read"):
        what_is_unsure(own, run)
