from pathlib import Path

import datasets
import pytest

from hsplit_flower.data import Example
from hsplit_flower.data.hub import examples_of_table, read_hub
from hsplit_flower.errors import DataError

SECRET = "a patient's own words"


@pytest.fixture
def hub_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data files as the hub would serve it: `datasets` reads both in the same way."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repository"
    folder.mkdir()
    names = {"train": "AB", "validation": "C"}
    for split, letters in names.items():
        table = {
            "meaning_representation": [f"name[{letter}]" for letter in letters],
            "human_reference": [f"{letter} is here. " for letter in letters],
        }
        datasets.Dataset.from_dict(table).to_parquet(folder / f"{split}.parquet")
    return folder


def test_splits_and_columns_are_found_under_their_hub_names(hub_like: Path) -> None:
    train, dev = read_hub(str(hub_like), "train"), read_hub(str(hub_like), "dev")
    assert [e.reference for e in train] == ["A is here.", "B is here."]
    assert dev == [Example(meaning="name[C]", reference="C is here.")]


def test_missing_split_is_refused_with_the_ones_there_are(hub_like: Path) -> None:
    with pytest.raises(DataError, match=r"no test split: got \['train', 'validation'\]"):
        read_hub(str(hub_like), "test")


def test_what_cannot_be_loaded_is_refused_with_what_was_tried() -> None:
    with pytest.raises(DataError, match=r"tried datasets.load_dataset\('nobody/nothing'\) and got"):
        read_hub("nobody/nothing", "train")


def test_files_that_do_not_belong_together_are_refused_without_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    for name, column in (("a", "mr"), ("b", SECRET)):
        table = datasets.Dataset.from_dict({column: ["x"]})
        table.to_parquet(tmp_path / "set" / f"{name}.parquet")
    with pytest.raises(DataError, match=r"and got DatasetGeneration\w+; check the") as refused:
        read_hub(str(tmp_path / "set"), "train")
    assert SECRET not in str(refused.value) and SECRET in refused.value.private_detail


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({SECRET: ["x"]}, r"has 1 column; wanted \['mr', 'ref'\] or \['meaning_repr"),
        ({"mr": ["a", " "], "ref": ["x", "y"]}, "row 2 has an empty meaning or reference"),
        ({"mr": [SECRET], "ref": [None]}, "row 1 does not hold texts: str and NoneType"),
        ({"mr": ["a"], "ref": [[SECRET, "y"]]}, "row 1 does not hold texts: str and list"),
        ({"mr": [], "ref": []}, "has no rows"),
    ],
)
def test_table_that_holds_no_examples_is_refused(columns: dict[str, list], message: str) -> None:
    table = datasets.Dataset.from_dict(columns)
    with pytest.raises(DataError, match=f"owner/name.*{message}") as refused:
        examples_of_table(table, "owner/name")
    assert SECRET not in str(refused.value)


def test_e2e_column_names_are_known_too() -> None:
    table = datasets.Dataset.from_dict({"mr": ["name[A]"], "ref": ["A is."], "other": [1]})
    assert examples_of_table(table, "x") == [Example(meaning="name[A]", reference="A is.")]
