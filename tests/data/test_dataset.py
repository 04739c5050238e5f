import socket
from pathlib import Path

import pytest

from hsplit_flower.data import SPLITS, Example, describe, load_examples, restaurants, thinned
from hsplit_flower.errors import DataError


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text("mr,ref\nname[A],A is.\n")
    return tmp_path


@pytest.mark.usefixtures("no_network")
def test_restaurants_are_built_in() -> None:
    for split in SPLITS:
        assert load_examples("restaurants", split) == restaurants.generate(split)


@pytest.mark.usefixtures("no_network")
def test_existing_folder_is_read_as_csv_files(folder: Path) -> None:
    assert load_examples(str(folder), "train") == [Example(meaning="name[A]", reference="A is.")]


def test_existing_folder_comes_before_a_hub_id(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / "owner")
    (folder.parent / "owner" / "name").mkdir()
    (folder.parent / "owner" / "train.csv").rename(folder.parent / "owner" / "name" / "train.csv")
    assert len(load_examples("owner/name", "train")) == 1


def test_owner_and_name_are_looked_for_on_the_hub() -> None:
    with pytest.raises(DataError, match=r"tried datasets.load_dataset\('nobody/nothing'\)"):
        load_examples("nobody/nothing", "train")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("dataset", ["restuarants", "", "./e2e", "/no/such/folder", "a/b/c"])
def test_unknown_dataset_is_refused_with_the_three_possibilities(dataset: str) -> None:
    with pytest.raises(DataError, match=r"'restaurants'.*existing folder.*hub id 'owner/name'"):
        load_examples(dataset, "train")


def test_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"'validation'; wanted one of \['train', 'dev', 'test'\]"):
        load_examples("restaurants", "validation")


def test_describe_counts_examples_meanings_and_attributes() -> None:
    meanings = ["name[A], food[Greek]", "name[A], food[Greek]", "name[B]", "name[C]"]
    examples = [Example(meaning=meaning, reference="x") for meaning in meanings]
    assert describe(examples) == "4 examples of 3 meanings: name 100%, food 50%"
    assert describe([]) == "0 examples of 0 meanings"
    assert describe([Example(meaning="A pub", reference="x")]).endswith("(free text)")


@pytest.mark.parametrize(
    ("count", "most", "kept"),
    [
        (10, 3, [0, 3, 6]),
        (10, 10, list(range(10))),
        (3, 5, [0, 1, 2]),
        (0, 4, []),
        (7, 4, range(4)),
    ],
)
def test_thinning_takes_every_one_of_the_same_distance(
    count: int, most: int, kept: list[int]
) -> None:
    examples = [Example(meaning=f"name[{number}]", reference="x") for number in range(count)]
    assert thinned(examples, most) == [examples[number] for number in kept]
