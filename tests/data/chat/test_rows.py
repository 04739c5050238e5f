"""Rows of files in four formats, what their columns mean, and how a bad one is named."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow.parquet import write_table

from hsplit_flower.data.chat import Conversation, Message, load_conversations
from hsplit_flower.data.chat.row_files import READERS, file_rows
from hsplit_flower.data.chat.row_format import RowFormat
from hsplit_flower.errors import ConfigError, DataError

ASKED = [
    {"prompt": "Where, then?", "completion": 'In the "old" town.'},
    {"prompt": "When?\nSoon?", "completion": "At nine. Ça va."},
]
ANSWERED = [
    (
        Message(role="user", content=row["prompt"]),
        Message(role="assistant", content=row["completion"]),
    )
    for row in ASKED
]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def as_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".json": as_json,
    ".csv": as_csv,
    ".parquet": parquet,
}


def turns(one: Conversation) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in one.messages]


@pytest.mark.parametrize("suffix", READERS)
def test_every_format_of_file_gives_the_same_conversations(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"talks{suffix}"
    WRITERS[suffix](path, ASKED)
    read = load_conversations(str(path))
    assert [one.messages for one in read] == ANSWERED
    assert [int(re.findall(r"(?:line|row) (\d+)$", one.place)[0]) for one in read] == {
        ".jsonl": [1, 2],
        ".ndjson": [1, 2],
        ".json": [2, 6],
        ".csv": [2, 4],
        ".parquet": [1, 2],
    }[suffix]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_messages_are_read_from_every_file_that_has_lists(suffix: str, tmp_path: Path) -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = tmp_path / f"talks{suffix}"
    WRITERS[suffix](path, [{"messages": said, "site": 3}])
    (one,) = load_conversations(str(path), RowFormat(group_by="site"))
    assert turns(one) == [("user", "a"), ("assistant", "b")]
    assert one.group == "3"


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"messages": [USER, ANSWER, USER]}, [("user", "a"), ("assistant", "b")]),
        ({"prompt": [USER], "completion": [ANSWER]}, [("user", "a"), ("assistant", "b")]),
        ({"prompt": "a", "completion": "b", "id": 1}, [("user", "a"), ("assistant", "b")]),
        ({"instruction": "a", "output": "b"}, [("user", "a"), ("assistant", "b")]),
        ({"instruction": "a", "input": "", "output": "b"}, [("user", "a"), ("assistant", "b")]),
        (
            {"instruction": "a", "input": "c", "output": "b", "text": "all of it"},
            [("user", "a\n\nc"), ("assistant", "b")],
        ),
    ],
)
def test_columns_say_what_a_row_is(
    row: dict[str, Any], wanted: list[tuple[str, str]], tmp_path: Path
) -> None:
    jsonl(tmp_path / "rows.jsonl", [row])
    (one,) = load_conversations(str(tmp_path / "rows.jsonl"))
    assert turns(one) == wanted and one.text == ""


def test_a_text_is_a_text(tmp_path: Path) -> None:
    jsonl(tmp_path / "rows.jsonl", [{"text": " as it is\n"}])
    (one,) = load_conversations(str(tmp_path / "rows.jsonl"))
    assert (one.text, one.messages) == (" as it is\n", ())


def test_format_and_columns_can_be_said_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    talk = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    jsonl(path, [{"conversations": talk, "text": "both"}])
    renamed = ("messages=conversations", "role = from", "content=value")
    (one,) = load_conversations(str(path), RowFormat.of(None, renamed))
    assert turns(one) == [("user", "a"), ("assistant", "b")]
    (one,) = load_conversations(str(path), RowFormat(name="text"))
    assert one.text == "both"


@pytest.mark.parametrize(
    ("name", "renamed", "message"),
    [
        ("chat", (), "there is no format 'chat'; wanted one of"),
        (None, ("prompt",), "columns has ['prompt']: ours=theirs is wanted"),
        (None, ("question=prompt",), "there is no column 'question' to call otherwise"),
    ],
)
def test_wrong_formats_are_refused(name: Any, renamed: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        RowFormat.of(name, renamed)


SECRET = "a patient's own words"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": SECRET}, " has 1 column: what is wanted is messages, or prompt and completion"),
        ({SECRET: SECRET, "x": SECRET}, " has 2 columns: what is wanted is messages, or prompt"),
        ({"prompt": SECRET, "completion": ""}, ": completion is empty"),
        ({"prompt": SECRET, "completion": 7}, ": completion is a int: a text is wanted"),
        ({"messages": SECRET}, ": messages is a str: a list of messages is wanted"),
        ({"messages": [SECRET]}, ": messages, message 1 is a str: an object with role and content"),
        (
            {"messages": [{SECRET: "human", "value": SECRET}]},
            ": messages, message 1 has 2 keys: role and content are wanted; name what is called "
            "otherwise with columns, such as role=from, content=value",
        ),
        (
            {"messages": [{"role": SECRET, "content": SECRET}]},
            ": messages, message 1: role must be one of system, developer, user, assistant, tool",
        ),
        ({"messages": [{"role": "user", "content": SECRET}]}, " has no answer"),
        ({"messages": []}, " has no answer"),
        ({"text": SECRET + "\ud800"}, ": text has half of a character"),
        ([SECRET], " is a list: an object with columns is wanted"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_bad_row_is_named_by_file_and_line_and_not_shown(
    suffix: str, row: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / f"rows{suffix}"
    good = json.dumps(ASKED[0])
    lines = [good, json.dumps(row)]
    path.write_text(
        "\n".join(lines)
        if suffix == ".jsonl"
        else f"[{','.join(lines)}]".replace(f"{good},", f"{good},\n"),
        encoding="utf-8",
    )
    with pytest.raises(DataError, match=re.escape(message)) as refused:
        load_conversations(str(path))
    assert str(refused.value).startswith(f"{path}, line 2")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"prompt": "x"', "line 1 is no JSON (Expecting ',' delimiter)"),
        ("a.jsonl", b'\n{"prompt": "\xff"}', "line 2 is not UTF-8"),
        ("a.jsonl", b"[" * 100_000, "line 1 is nested too deeply"),
        ("a.json", b'{"text": "x"}', "is not a list"),
        (
            "a.json",
            b'[{"text": "x"}\n {"text"',
            "does not go on with a comma or ] after the row of",
        ),
        ("a.json", b'[{"text": "x"},\n {"text"', "row that begins on line 2 is no JSON"),
        ("a.json", b'[{"text": "x"}', "does not go on with a comma or ]"),
        ("a.json", b'[{"text": "x"},\n{"text": "y"}]\n\n[{"text"', "a.json, line 4 goes on after"),
        ("a.json", b'[{"text": "x"}]]', "a.json, line 1 goes on after the list's end"),
        ("a.json", b"[]\n[]", "a.json, line 2 goes on after the list's end"),
        ("a.csv", b"prompt,completion\na,b\na,b,c\n", "line 3: 3 fields, and the header has 2"),
        ("a.csv", b'prompt,completion\na,"b" c\n', "line 2 is no CSV"),
        ("a.csv", b"prompt,completion\n\xff,b\n", "is not UTF-8"),
        ("a.csv", b"prompt;completion\na;b\n", "is one column, with ';' in it: commas between"),
        ("a.parquet", b"PAR1", "is no Parquet file that can be read"),
        ("a.jsonl", b"", "has no rows"),
        ("a.json", b"[]", "has no rows"),
        ("a.xlsx", b"", "unknown data"),
    ],
)
def test_a_file_that_is_none_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if path.suffix != ".xlsx":
        path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        load_conversations(str(path))


@pytest.mark.parametrize(
    ("content", "rows", "message"),
    [
        (
            f"{SECRET},yes\nb,c\n",
            RowFormat(),
            "line 2 has 2 columns, and line 1 is taken as their names: what is wanted is messages",
        ),
        (f"{SECRET}; yes\nb\n", RowFormat(), "line 1: the header is one column, with ';' in it"),
        (
            f"{SECRET},text\nb,c\n",
            RowFormat(group_by="ward"),
            "line 2 has no column 'ward' to divide by among its 2, and line 1 is taken as their",
        ),
    ],
)
def test_a_first_line_that_is_no_header_is_for_its_owner_alone(
    content: str, rows: RowFormat, message: str, tmp_path: Path
) -> None:
    """What an error says a client sends to the server."""
    path = tmp_path / "rows.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)) as refused:
        load_conversations(str(path), rows)
    assert SECRET not in str(refused.value) and SECRET not in repr(refused.value)
    assert SECRET in refused.value.private_detail


def test_a_hub_id_is_read_as_a_file_of_its_rows_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder below the current one is to `datasets` what an id is on the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "talks").mkdir(parents=True)
    parquet(tmp_path / "owner" / "talks" / "train.parquet", ASKED)
    assert [one.messages for one in load_conversations("owner/talks")] == ANSWERED
    with pytest.raises(DataError, match="owner/talks, split 'train', row 1 has no column 'ward'"):
        load_conversations("owner/talks", RowFormat(group_by="ward"))


def test_names_without_an_ending_and_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"ends in '.txt': one of .jsonl, .ndjson"):
        load_conversations(str(tmp_path / "rows.txt"))
    with pytest.raises(DataError, match=r"is a folder: a file in it that ends in one of \.jsonl"):
        load_conversations(str(tmp_path))
    with pytest.raises(DataError, match=r"gone\.csv cannot be read: No such file"):
        list(file_rows(tmp_path / "gone.csv"))
    with pytest.raises(DataError, match="has no column 'ward' to divide by"):
        jsonl(tmp_path / "rows.jsonl", ASKED)
        load_conversations(str(tmp_path / "rows.jsonl"), RowFormat(group_by="ward"))


def test_a_conversations_texts_are_not_shown_by_accident() -> None:
    one = Conversation(messages=ANSWERED[0], text=SECRET)
    assert SECRET not in repr(one) and "Where" not in repr(one)
