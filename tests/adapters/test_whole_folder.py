"""A folder is there as a whole, or as it was before."""

from pathlib import Path

import pytest

from hsplit_flower.adapters.whole_folder import check_is_free, whole_folder
from hsplit_flower.errors import ConfigError


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text(encoding="utf-8")
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_what_is_filled_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole_folder(tmp_path / "a" / "b") as fresh:
            (fresh / text).write_text(text, encoding="utf-8")
            assert contents(tmp_path / "a").get("b/new") is None
    assert contents(tmp_path) == {"a/b/new": "new"}


def test_a_filling_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").write_text("old", encoding="utf-8")
    with pytest.raises(OSError, match="disk"), whole_folder(tmp_path / "b") as fresh:
        (fresh / "half").touch()
        raise OSError("the disk is full")
    assert contents(tmp_path) == {"b/old": "old"}


def test_what_is_in_a_folder_is_not_written_over_unasked(tmp_path: Path) -> None:
    check_is_free(tmp_path / "absent")
    check_is_free(tmp_path)
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="not an empty folder: ask for another"):
            check_is_free(path, advice="ask for another")


def test_nothing_beside_it_is_taken_for_its_own(tmp_path: Path) -> None:
    (tmp_path / "b.new").mkdir()
    (tmp_path / "b.new" / "somebody's").write_text("own", encoding="utf-8")
    with whole_folder(tmp_path / "b") as fresh:
        (fresh / "file").write_text("text", encoding="utf-8")
    assert contents(tmp_path) == {"b/file": "text", "b.new/somebody's": "own"}
