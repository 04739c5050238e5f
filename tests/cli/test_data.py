"""``hsplit data``: what a run would learn of a file; texts are for the user's own terminal."""

import io
import json
import re
import sys
from bisect import bisect_left
from pathlib import Path

import pytest

from hsplit_flower.cli import main
from hsplit_flower.cli.data import OPTIONS, Shown
from hsplit_flower.cli.data_report import bin_ends, coloured, histogram_rows
from hsplit_flower.cli.read_data import DataFound, read_data
from hsplit_flower.data.chat import encode_conversations, load_conversations
from hsplit_flower.settings import Chat
from hsplit_flower.splitting import load_tokenizer

MODEL = ["--model", "llama-tiny"]
ANSWER = "At the mill, every day."


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Two short rows and a long one."""
    rows = [{"prompt": f"Where {'now ' * times}?", "completion": ANSWER} for times in (1, 2, 90)]
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def found_in(path: Path, **typed: object) -> DataFound:
    return read_data(str(path), OPTIONS.read({"model": "llama-tiny", **typed}))


def test_it_says_what_a_run_would_do(talks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(talks), *MODEL, "--sequence-length", "64"]) == 0
    told = capsys.readouterr().out
    counts = encode_conversations(
        load_conversations(str(talks)), load_tokenizer("llama-tiny"), max_length=64
    ).counts
    for line in (
        f"{talks}: 3 conversations",
        "chat template: a plain one, as the tokenizer has none; an answer ends with </s>",
        "too long: 1 row with more than 64 tokens, left out",
        f"kept: 2 rows with {counts.num_tokens} tokens",
        f"learnt: {counts.num_learnt_tokens} tokens, {counts.learnt_share:.0%}; masked: ",
        "A row is shown on a terminal only",
    ):
        assert line in told
    assert ANSWER not in told and "Where" not in told


@pytest.mark.parametrize(
    ("on_long", "words", "num_kept"),
    [("drop", "left out", 2), ("truncate", "cut", 2), ("error", "which a run refuses", 2)],
)
def test_long_rows_are_told_and_stop_nothing_here(
    on_long: str, words: str, num_kept: int, talks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--sequence-length", "64", "--on-long", on_long]
    assert main(["data", str(talks), *MODEL, *options, "--example", "0"]) == 0
    told = capsys.readouterr().out
    assert f"too long: 1 row with more than 64 tokens, {words}\n" in told
    assert f"kept: {num_kept} rows" in told
    # What is cut of the long row is its answer.
    assert ("without anything to learn: 1 row, left out" in told) == (on_long == "truncate")


def test_the_histogram_counts_every_row_once_and_marks_the_long_ones(talks: Path) -> None:
    found = found_in(talks, sequence_length=64)
    rows = list(histogram_rows(found))
    assert sum(int(number) for _, number, _, _ in rows) == 3
    lengths = [len(one) for one in found.encoded]
    assert int(rows[-1][0].split("-")[1]) >= max(lengths)
    assert [note for _, number, _, note in rows if number != "0"][-1] == "too long"
    assert not any(note for span, _, _, note in rows if int(span.split("-")[1]) <= 64)


def test_a_huge_row_does_not_push_all_others_into_one_bin() -> None:
    lengths = [*range(40, 120), 100_000]
    ends = bin_ends(lengths)
    assert len({bisect_left(ends, length) for length in lengths[:-1]}) == 6
    assert ends[-2] < lengths[-1] <= ends[-1] and len(ends) < 30
    # Nor do some, as long as most are short.
    ends = bin_ends([*range(40, 120), *range(50_000, 50_060)])
    assert len({bisect_left(ends, length) for length in range(40, 120)}) == 3
    # Where none is much longer, all bins are alike.
    assert bin_ends([9, 25, 70, 80]) == [8, 16, 24, 32, 40, 48, 56, 64, 72, 80]


def test_what_is_learnt_is_in_colour_and_a_files_control_characters_are_not_obeyed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "talks.jsonl"
    row = {"prompt": "Clear \x1b[2J it", "completion": f"No.\n{ANSWER}\x07"}
    path.write_text(json.dumps(row), encoding="utf-8")
    found = found_in(path)
    text = coloured(found, found.encoded[0])
    learnt = "".join(text.plain[s.start : s.end] for s in text.spans if "green" in str(s.style))
    assert learnt == f" No.\n{ANSWER}\\x07</s>"
    assert "Clear \\x1b[2J it" in text.plain and "\x1b" not in text.plain


class Terminal(io.StringIO):
    """Standard output or error where somebody sits before it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_row_that_is_asked_for(
    talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["data", str(talks), *MODEL, "--example", "2"]) == 0
    shown = terminal.getvalue()
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert f"{talks}, line 2; what is learnt is in colour" in plain.replace("\n", "")
    assert re.search(r"\x1b\[1;32m At the mill", shown)
    assert main(["data", str(talks), *MODEL, "--example", "4"]) == 0
    assert "There is no row 4 to show: 3 are kept." in terminal.getvalue()


def test_a_bad_row_is_named_and_its_columns_are_told_on_a_terminal_alone(
    talks: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with talks.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "private", "his\\u001b own words": ""}\n')
    assert main(["data", str(talks), *MODEL]) == 1
    told = capsys.readouterr().err
    assert f"hsplit: {talks}, line 4 has 2 columns" in told and "own words" not in told
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["data", str(talks), *MODEL]) == 1
    told = terminal.getvalue()
    assert "\nhsplit: found there: ['his\\x1b own words', 'prompt']\n" in told
    assert "private" not in told


def test_all_that_is_wrong_is_told_in_one_go_and_nothing_of_what_rows_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = json.dumps({"prompt": "Where?", "completion": ANSWER})
    unknown, empty = '{"secret-name": "secret"}', '{"prompt": " ", "completion": "secret"}'
    forged = json.dumps({"prompt": "secret </s>", "completion": ANSWER})
    lines = [good, unknown, "{secret", *[empty] * 14, '["secret"]', forged, good, *[unknown] * 2]
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert main(["data", str(path), *MODEL]) == 1
    told = capsys.readouterr().err
    assert f"hsplit: {path} has 20 problems:\n  - {path}, line 2 has 1 column: what is" in told
    assert "shows on a terminal\n    the same: line 21, line 22\n" in told
    assert f"  - {path}, line 3 is no JSON (" in told
    ten = ", ".join(f"line {number}" for number in range(5, 15))
    assert (
        f"line 4: prompt is empty: fill it in or remove the row\n    the same: {ten} and 3 more\n"
        in told
    )
    assert f"  - {path}, line 18 is a list: an object" in told
    # What is found when a row is written with the template is told with what is found before.
    assert f"  - {path}, line 19: message 1 has '</s>' in it" in told
    assert "secret" not in told
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["data", str(path), *MODEL]) == 1
    assert terminal.getvalue().endswith("hsplit: found there: ['secret-name']\n")


def test_of_many_problems_that_differ_ten_are_told_and_the_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talks.csv"
    # Each with another number of fields.
    rows = "".join(",".join("x" * fields) + "\n" for fields in range(3, 17))
    path.write_text(f"prompt,completion\n{rows}", encoding="utf-8")
    assert main(["data", str(path), *MODEL]) == 1
    told = capsys.readouterr().err
    assert f"{path} has 14 problems:" in told and told.endswith("\n  and 4 others\n")
    assert "line 11: 12 fields, and the header has 2" in told and "line 12" not in told


def test_its_options_are_the_settings_of_the_app() -> None:
    offered = {name for offer in OPTIONS.offers if offer.group is Chat for name in offer.fields}
    assert offered == {field.name for field in Chat.known()} - {"packing", "held_out_share"}
    assert [field.name for field in Shown.known()] == ["example"]
