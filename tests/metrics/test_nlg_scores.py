"""The five metrics, equal to what the official E2E script prints for a set of our own.

`many_references.json` has the set, with one to five references an item, and the figures that the
script printed for it, with its Perl program for BLEU and NIST and its Python port for the others.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from hsplit_flower.errors import DataError, MetricsUnavailableError
from hsplit_flower.metrics import NlgItem, check_metrics, nlg_scores
from hsplit_flower.metrics.bleu import bleu
from hsplit_flower.metrics.caption_scores import cider, rouge_l
from hsplit_flower.metrics.meteor import meteor
from hsplit_flower.metrics.nist import nist
from hsplit_flower.metrics.ptb_tokens import ptb_tokenised

SET = json.loads((Path(__file__).parent / "many_references.json").read_text(encoding="utf-8"))
OFFICIAL = SET["official"]
HALF_A_DIGIT = 0.5e-4

needs_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="METEOR and the Penn Treebank tokenizer need Java"
)


def items(*, with_empty: bool) -> list[NlgItem]:
    """The set; with two of its hypotheses empty, if so asked."""
    empty = SET["empty"] if with_empty else []
    return [
        NlgItem(
            hypothesis="" if number in empty else item["hypothesis"],
            references=tuple(item["references"]),
        )
        for number, item in enumerate(SET["items"])
    ]


@pytest.mark.long
@needs_java
def test_all_five_are_the_official_scripts_with_empty_hypotheses() -> None:
    scores = asdict(nlg_scores(items(with_empty=True)))
    assert scores == pytest.approx(OFFICIAL["two of them empty"], abs=HALF_A_DIGIT)


def test_bleu_and_nist_are_the_official_scripts() -> None:
    for name, with_empty in (("all written", False), ("two of them empty", True)):
        given = items(with_empty=with_empty)
        assert bleu(given) == pytest.approx(OFFICIAL[name]["bleu"], abs=HALF_A_DIGIT)
        assert nist(given) == pytest.approx(OFFICIAL[name]["nist"], abs=HALF_A_DIGIT)


@needs_java
def test_rouge_and_cider_are_the_official_scripts() -> None:
    given = items(with_empty=False)
    hypotheses = ptb_tokenised([item.hypothesis for item in given])
    references = [ptb_tokenised(item.references) for item in given]
    wanted = OFFICIAL["all written"]
    assert rouge_l(hypotheses, references) == pytest.approx(wanted["rouge_l"], abs=HALF_A_DIGIT)
    assert cider(hypotheses, references) == pytest.approx(wanted["cider"], abs=HALF_A_DIGIT)


@needs_java
def test_tokens_are_the_treebanks_in_lower_case_whatever_the_locale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    assert ptb_tokenised(['It isn\'t £10 (yet) - "Café"!', "", "A inn. An inn"]) == [
        "it is n't # 10 -lrb- yet -rrb- café",
        "",
        "a inn an inn",
    ]


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(DataError, match="no texts to score"):
        nlg_scores([])


def java_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program in Java's place, and nothing else where programs are found."""
    program = tmp_path / "java"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), "/bin", "/usr/bin"]))


def test_no_java_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MetricsUnavailableError, match="no program 'java' on the PATH; install"):
        check_metrics()


def test_a_heap_that_cannot_be_had_is_said_with_javas_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "Could not reserve enough space for 2097152KB object heap"
    java_that(tmp_path, monkeypatch, f'echo "{told}" >&2; exit 1')
    with pytest.raises(MetricsUnavailableError, match=f"heap of 2 GB .*said: {told}.*ulimit -v"):
        check_metrics()


@needs_java
def test_javas_real_refusal_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = f'ulimit -v 1500000; exec {shutil.which("java")} "$@"'
    java_that(tmp_path, monkeypatch, bounded)
    with pytest.raises(MetricsUnavailableError, match=r"needs a heap of 2 GB .* object heap"):
        check_metrics()


@pytest.mark.parametrize("dies", ["exit 3", "read line; exit 3"])
def test_a_meteor_that_dies_is_told_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    java_that(tmp_path, monkeypatch, f"echo out of memory >&2; {dies}")
    with pytest.raises(MetricsUnavailableError, match=r"METEOR failed.*status 3.*out of memory"):
        meteor(["an inn"], [["an inn"]])


def test_a_tokenizer_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java_that(tmp_path, monkeypatch, "cat > /dev/null; echo no class >&2; exit 1")
    with pytest.raises(MetricsUnavailableError, match=r"tokenizer .* failed.*said: no class"):
        ptb_tokenised(["An inn."])


def test_a_missing_extra_is_said_with_how_to_get_it() -> None:
    script = (
        "import sys; sys.modules['sacrebleu'] = None\n"
        "from hsplit_flower.metrics import check_metrics\n"
        "check_metrics()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "the metrics need sacrebleu" in last
    assert "pip install 'hsplit-flower[nlg]'" in last
