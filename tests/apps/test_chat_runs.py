"""Runs of the app for conversations in one process, on files that clients have of their own."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.adapters import import_adapter
from hsplit_flower.cli import main
from hsplit_flower.client.goes_on_top import OnTopOf, what_is_unsure
from hsplit_flower.data.chat import HELP_DESK
from hsplit_flower.reports import read_run

from .one_process import flowers_log, run_here
from .own_rows import SECRET, file_of

pytestmark = [
    pytest.mark.usefixtures("app_on_the_path"),
    pytest.mark.parametrize("app_name", ["chat"]),
]


def test_a_run_on_two_clients_own_files_shows_nothing_of_them(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = {at: {"data": str(file_of(tmp_path / f"{at}.jsonl", 12, 100 * at))} for at in range(2)}
    changed = {"server-evaluation": False, "num-server-rounds": 1, "chat.packing": True}
    with caplog.at_level(logging.DEBUG), flowers_log() as told:
        folder = run_here(settings, tmp_path / "out", changed, app="chat", own=own)
    run = read_run(folder)
    (measured,) = [line.perplexity for line in run.client_evaluations]
    assert measured is not None
    (last,) = [line for line in told if "adapter: " in line]
    assert last.startswith(f"clients' perplexity {measured:.4f} after round 1 in ")
    assert {client.counts for line in run.training for client in line.clients.values()} == {True}
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    said = "\n".join([*told, caplog.text])
    assert SECRET.encode() not in written and SECRET not in said


@pytest.mark.long
def test_a_site_without_rows_of_its_own_is_left_out_by_name(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Beside two that have them, and trains on nothing that nobody asked for."""
    own = {
        at: {"data": str(file_of(tmp_path / f"{at}.jsonl", 12, 100 * at)), "name": f"site-{at}"}
        for at in range(2)
    }
    own[2] = {"name": "forgotten"}
    changed = {"server-evaluation": False, "num-server-rounds": 1}
    with flowers_log() as told:
        folder = run_here(settings, tmp_path / "out", changed, app="chat", own=own, num_clients=3)
    assert any(
        "client forgotten is left out: ConfigError: this client has no rows" in line
        and "--node-config 'data=" in line
        for line in told
    )
    (training,) = read_run(folder).training
    assert {name for name, one in training.clients.items() if one.counts} == {"site-0", "site-1"}


@pytest.mark.long
def test_a_run_s_last_perplexity_is_what_is_measured_with_its_adapter_afterwards(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"num-server-rounds": 1, "evaluation-examples": 12, "dataset": HELP_DESK}
    changed |= {"chat.learn": "last-answer", "chat.held-out-share": 0.05}
    folder = run_here(settings, tmp_path / "out", changed, app="chat")
    last = read_run(folder).server_evaluations[-1].perplexity
    given = ("--adapter", folder, "--dataset", HELP_DESK, "--num-examples", 12, "--device", "cpu")
    assert main(["evaluate", *map(str, given)]) == 0
    report = json.loads((folder / "evaluation-held-out" / "evaluation.json").read_text())
    assert report["perplexity"] == pytest.approx(last, rel=1e-4)
    capsys.readouterr()
    assert main(["export", str(folder), "--rank", "1", "--evaluate", HELP_DESK]) == 0
    (sent,) = re.findall(r"sent by the run .* ([\d.]+)\n", capsys.readouterr().out)
    assert float(sent) == pytest.approx(last, rel=1e-3)


@pytest.mark.long
def test_an_adapter_of_its_own_lies_beside_a_client_s_file_and_its_gain_in_the_run_s_folder(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    own = {
        0: {"data": str(file_of(tmp_path / "first.jsonl", 12)), "name": "first"},
        1: {
            "data": str(file_of(tmp_path / "second.jsonl", 12, 100)),
            "name": "second",
            "personal-adapter": str(tmp_path / "elsewhere"),
        },
    }
    changed = {
        "server-evaluation": False,
        "num-server-rounds": 1,
        "training.personalise-steps": 3,
        "training.learning-rate": 2e-3,
    }
    with flowers_log() as told:
        folder = run_here(settings, tmp_path / "out", changed, app="chat", own=own)
    line = read_run(folder).personalisation
    assert line is not None and line.server_round == 1
    *_, first, second, last = told
    num_tokens = sum(one.num_tokens or 0 for one in read_run(folder).training[0].clients.values())
    assert num_tokens and f" s, {num_tokens:,} tokens learnt; adapter: " in last
    for name, said in (("first", first), ("second", second)):
        client = line.clients[name]
        assert client.num_steps == 3 and client.num_tokens
        before, after = client.perplexity_before, client.perplexity_after
        assert before is not None and after is not None and after < before
        assert f"client {name}: perplexity of what it holds out {before:.4f} -> {after:.4f}" in said
        assert f"| {name} | {before:.3g} | {after:.3g} | 3 |" in (folder / "summary.md").read_text()
    for kept in (tmp_path / "first.jsonl-personal-adapter", tmp_path / "elsewhere"):
        blocks = {int(name.split(".")[2]) for name in import_adapter(kept)}
        assert blocks and max(blocks) < max(
            one.cut for one in read_run(folder).training[0].clients.values()
        )
        note = OnTopOf.read(kept)
        assert note is not None and note.server_round == 1
        assert not what_is_unsure(kept, folder / "adapter")
    assert import_adapter(folder / "adapter")
