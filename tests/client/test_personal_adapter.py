"""Where a client keeps an adapter of its own, and what it adds."""

from pathlib import Path

import pytest
import torch

from hsplit_flower.adapters import LowRank
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
    own.write({"a": update(1)}, KEY, is_transposed=False)
    own.write({"a": update(2), "b": update(3, rank=1)}, KEY, is_transposed=False)
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
        taken.write({"a": update(1)}, KEY, is_transposed=False)
    with pytest.raises(AdapterError, match=r"no readable adapter_config\.json"):
        PersonalAdapter(folder=tmp_path).added_to({})
