"""A page is whole, loads nothing, and shows nothing of others as anything but text."""

import dataclasses
import re
from functools import cache

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.reports.page import page
from hsplit_flower.reports.run import Run
from tests.reports.page.reader import read_page
from tests.reports.page.runs import CLINICS, run_of, void_run

SECTIONS = (
    *("quality", "sites", "plan", "importance", "memory"),
    *("seconds", "traffic", "absences", "settings"),
)
HOSTILE = "<script>alert(1)</script>\"'&<!--\u202egnp.exe\x00\ud800"
CASES = {
    "one run": [run_of()],
    "several runs": [run_of(), run_of("day", strategy="fed-lora"), void_run()],
    "runs of one name": [run_of(), run_of()],
    "a void run": [void_run()],
    "clients left out": [run_of(left_out=["old-laptop", "phone"])],
    "a resumed run": [run_of(num_rounds=6, resume="outputs/night")],
    "a deployment without evaluation": [run_of(evaluates=False, is_simulated=False)],
    "one round, one client": [run_of(clients=["alone"], num_rounds=1)],
    "many clients and rounds": [run_of(clients=[f"site-{i}" for i in range(60)], num_rounds=30)],
    "nothing yet": [Run(name="fresh")],
    "hostile names": [run_of(HOSTILE, clients=[HOSTILE, "b"], left_out=[f"{HOSTILE}!"])],
}


@cache
def document_of(case: str) -> str:
    """The page about the runs of a case."""
    return page(CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_a_page_is_well_formed_and_loads_nothing(case: str) -> None:
    document = document_of(case)
    read = read_page(document)
    assert read.faults == []
    assert len(read.ids) == len(set(read.ids))
    assert "script" not in read.tags
    assert read.handlers == []
    inside = {f"#{name}" for name in read.ids}
    assert set(read.addresses) - inside == {"data:,"}
    assert set(re.findall(r"url\(([^)]*)\)", document)) <= inside
    assert "http://" not in document
    assert "https://" not in document
    assert "@import" not in document
    document.encode("utf-8")


@pytest.mark.parametrize("case", CASES)
def test_every_run_has_every_section(case: str) -> None:
    ids, runs = read_page(document_of(case)).ids, CASES[case]
    own = SECTIONS if len(runs) == 1 else SECTIONS[1:]
    prefixes = [""] if len(runs) == 1 else [f"run{number}-" for number in range(1, len(runs) + 1)]
    wanted = {"quality"} | {f"{prefix}{name}" for prefix in prefixes for name in own}
    assert wanted <= set(ids)


@pytest.mark.parametrize("case", CASES)
def test_every_picture_says_what_it_shows(case: str) -> None:
    assert all(read_page(document_of(case)).labels)


def test_hostile_names_are_texts() -> None:
    read = read_page(document_of("hostile names"))
    assert "<script>alert(1)</script>\"'&<!--\ufffdgnp.exe\ufffd\ufffd" in read.text
    assert "\u202e" not in document_of("hostile names")


def test_a_page_says_how_a_run_went() -> None:
    text = read_page(page([run_of(left_out=["old-laptop"])])).text
    for told in (
        "5 clients fine-tuned llama-tiny together by hsplit-lora, in 4 rounds",
        "fell from 48.00 to 3.000",
        "chosen in round 1, and anew in round 2.",
        "one block more needs 187 MB, it has 167 MB",
        "down_proj in block 5",
        "old-laptop memory too small its smallest part needs 92.4 MB, it has 80 MB training 1-4",
        "520 MB crossed the clients' links",  # 5 clients, 4 rounds, 26 MB
        "training.learning-rate 0.008 0.001",
    ):
        assert told in text, told


def test_a_void_run_says_that_nothing_was_learnt() -> None:
    text = read_page(page([void_run()])).text
    assert "no round was completed" in text
    assert "nothing was learnt" in text
    assert "the worker is gone: connection refused" in text
    assert "did not answer no answer within 30 s training 1-3" in text


def test_several_runs_are_compared() -> None:
    text = read_page(document_of("several runs")).text
    assert "night hsplit-lora 4 of 4 5 48.00 3.000" in text
    assert "strategy hsplit-lora fed-lora hsplit-lora" in text


def test_runs_of_one_name_are_told_apart() -> None:
    assert "night (2)" in read_page(document_of("runs of one name")).text


def test_a_node_s_id_is_in_no_page() -> None:
    assert str(10**18)[:12] not in page([run_of()])


def test_paths_are_told_by_their_last_part() -> None:
    config = {"dataset": "/home/jan/secret-project/texts", "model": {"name": "llama-tiny"}}
    document = page([dataclasses.replace(run_of(), config=config)])
    assert "secret-project" not in document
    assert "texts" in document


def test_five_clients_of_a_large_model_stay_far_below_3_mb() -> None:
    document = page([run_of(clients=CLINICS, num_rounds=100, num_blocks=80)])
    assert len(document.encode("utf-8")) < 1_000_000


def test_no_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="no run"):
        page([])
