from pathlib import Path

import pytest

from hsplit_flower.data import Example, parse_meaning
from hsplit_flower.data.e2e import read_e2e_file, read_e2e_folder
from hsplit_flower.errors import DataError

ROW = '"name[A], eatType[pub]",A is a pub.\n'


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_reads_meaning_and_reference_whatever_the_columns_order(tmp_path: Path) -> None:
    text = 'id,Ref , mr\r\n1," A is ""fine"",\r\nand a pub. ","name[A], eatType[pub]"\r\n'
    examples = read_e2e_file(written(tmp_path / "train.csv", text))
    assert examples == [
        Example(meaning="name[A], eatType[pub]", reference='A is "fine",\r\nand a pub.')
    ]


def test_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path / "train.csv", "\ufeffmr,ref\n\n" + ROW + "\n")
    assert len(read_e2e_file(path)) == 1


def test_official_files_are_read_whole(shared_data: Path) -> None:
    sizes = {
        split: len(read_e2e_folder(shared_data / "e2e", split))
        for split in ("train", "dev", "test")
    }
    assert sizes == {"train": 42061, "dev": 4672, "test": 4693}


def test_every_official_meaning_is_a_list_of_attributes(shared_data: Path) -> None:
    for split in ("train", "dev", "test"):
        for meaning in {e.meaning for e in read_e2e_folder(shared_data / "e2e", split)}:
            assert parse_meaning(meaning)[0][0] == "name"


@pytest.mark.parametrize(
    ("split", "name"),
    [
        ("train", "trainset.csv"),
        ("train", "train.csv"),
        ("dev", "devset.csv"),
        ("dev", "dev.csv"),
        ("test", "testset_w_refs.csv"),
        ("test", "testset-2.csv"),
        ("test", "test.csv"),
    ],
)
def test_split_is_found_by_file_name(tmp_path: Path, split: str, name: str) -> None:
    written(tmp_path / name, "mr,ref\n" + ROW)
    assert len(read_e2e_folder(tmp_path, split)) == 1


def test_test_set_with_references_comes_before_the_one_without(tmp_path: Path) -> None:
    written(tmp_path / "testset.csv", "MR\nname[A]\n")
    written(tmp_path / "testset_w_refs.csv", "mr,ref\n" + ROW)
    assert read_e2e_folder(tmp_path, "test")[0].reference == "A is a pub."


def test_missing_file_is_named_with_what_is_there(tmp_path: Path) -> None:
    written(tmp_path / "trainset.csv", "mr,ref\n" + ROW)
    with pytest.raises(DataError, match=r"no dev file.*'devset.csv', 'dev.csv'.*'trainset.csv'"):
        read_e2e_folder(tmp_path, "dev")


def test_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown split 'valid'"):
        read_e2e_folder(tmp_path, "valid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty; wanted a header with \['mr', 'ref'\]"),
        ("mr,ref\n", "a header and no rows"),
        (
            "private meaning,ref\nx,y\n",
            r"lacks the columns \['mr'\]: its first line names 2, wanted are \['mr', 'ref'\]",
        ),
        (
            "mr,ref\n" + ROW + "name[A], eatType[pub],A is a pub.\n",
            r"row 2 \(line 3\) has 3 fields",
        ),
        ("mr,ref\n" + ROW + "name[A]\n", r"row 2 \(line 3\) has 1 fields, the header has 2"),
        ("mr,ref\n" + ROW + "name[A],  \n", r"row 2 \(line 3\) has an empty 'ref'"),
        ("mr,ref\n" + ROW + ",A is.\n", r"row 2 \(line 3\) has an empty 'mr'"),
        ('mr,ref\n"name[A]" x,A is.\n', "is not a CSV file"),
    ],
)
def test_bad_file_is_refused_with_its_name_and_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path / "trainset.csv", text)
    with pytest.raises(DataError, match=rf"trainset\.csv.*{message}") as refused:
        read_e2e_file(path)
    assert "private" not in str(refused.value)


def test_row_is_counted_across_references_of_several_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "dev.csv", 'mr,ref\nname[A],"one\ntwo"\nname[B],\n')
    with pytest.raises(DataError, match=r"dev.csv, row 2 \(line 4\)"):
        read_e2e_file(path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dev.csv"
    path.write_bytes("mr,ref\nname[Café],Café is.\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"dev.csv is not UTF-8 text"):
        read_e2e_file(path)
