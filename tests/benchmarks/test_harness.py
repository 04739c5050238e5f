"""The benchmark harness, run on a small benchmark that really measures."""

import json
import math
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks.harness import (
    Benchmark,
    Figure,
    Target,
    interleave,
    peak_memory_of,
    run_in_fresh_process,
)
from benchmarks.harness.catalogue import benchmark_names, load_benchmark
from benchmarks.harness.command import main

MEBIBYTE = 1024**2

SORTING = """
import random
from benchmarks.harness import Benchmark, Detail, Figure, Target, interleave

def measure(settings):
    numbers = random.Random(settings.seeds[0]).sample(range(1000), 10 if settings.quick else 500)
    shuffled, ordered = interleave(
        lambda: sorted(numbers), lambda: sorted(range(len(numbers))), repeats=3
    )
    yield Figure.of_repeats("shuffled", shuffled, "s", Target("<", 60))
    yield Figure(name="numbers", value=len(numbers), unit="count", target=Target(">=", 100))
    yield Figure(name="ordered", value=min(ordered), unit="s")
    yield Detail(name="scratch was empty", value=not list(settings.scratch.iterdir()))
    yield Detail(name="scratch", value=str(settings.scratch))

BENCHMARK = Benchmark(
    name="sorting", summary="How long sorting takes.", measure=measure, seeds=(7, 8)
)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of benchmarks with one in it, and a broken one that must not be imported."""
    folder = tmp_path / "tiny_benchmarks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "sorting.py").write_text(SORTING, encoding="utf-8")
    (folder / "not_ready.py").write_text("raise ImportError('imported all the same')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[name]


def test_report_holds_what_was_measured_and_on_what(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new folder" / "sorting.json"
    assert main(["sorting", "--out", str(out), "--quick"], package=package) == 0
    report = json.loads(out.read_text(encoding="utf-8"))

    assert (report["benchmark"], report["quick"], report["seeds"]) == ("sorting", True, [7])
    assert report["seconds"] > 0
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["memory_bytes"] > 2**28
    assert {"python", "torch", "transformers", "peft", "flwr", "ray"} <= set(report["versions"])
    shuffled, numbers, ordered = report["figures"]
    assert shuffled["target"] == {"comparison": "<", "value": 60}
    assert shuffled["reached"] is True
    assert shuffled["spread"]["repeats"] == 3
    assert shuffled["spread"]["minimum"] <= shuffled["value"] <= shuffled["spread"]["maximum"]
    assert (numbers["value"], numbers["reached"]) == (10, False)
    assert (ordered["target"], ordered["reached"], ordered["spread"]) == (None, None, None)
    assert report["details"]["scratch was empty"] is True
    assert not Path(report["details"]["scratch"]).exists()
    assert [file.name for file in out.parent.iterdir()] == ["sorting.json"]

    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["shuffled"][2:6] == ["s", "<", "60", "yes"]
    assert rows["numbers"][1:] == ["10", "count", ">=", "100", "NO"]
    assert rows["ordered"][2:] == ["s", "-", "-"]


def test_without_quick_and_with_other_seeds(package: str, tmp_path: Path) -> None:
    out = tmp_path / "sorting.json"
    main(["sorting", "--out", str(out), "--seeds", "1", "2"], package=package)
    report = json.loads(out.read_text(encoding="utf-8"))
    assert (report["quick"], report["seeds"]) == (False, [1, 2])
    assert report["figures"][1]["reached"] is True


@pytest.mark.parametrize("arguments", [["sortin"], []])
def test_unknown_name_gets_the_list(
    package: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, package=package) == 2
    assert "there are: not-ready, sorting" in capsys.readouterr().err


def test_listing_gives_summaries(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / package / "not_ready.py").unlink()
    assert main(["--list"], package=package) == 0
    assert capsys.readouterr().out.split(maxsplit=1) == ["sorting", "How long sorting takes.\n"]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("x = 1", "needs a BENCHMARK"),
        (SORTING, "holds benchmark 'sorting', wanted 'not-ready'"),
    ],
)
def test_a_module_that_is_no_benchmark_is_named(
    package: str, tmp_path: Path, source: str, complaint: str
) -> None:
    (tmp_path / package / "not_ready.py").write_text(source, encoding="utf-8")
    with pytest.raises(TypeError, match=complaint):
        load_benchmark("not-ready", package)


def test_a_benchmark_that_fails_writes_nothing(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "not_ready.py").write_text(
        "from benchmarks.harness import Benchmark\n"
        "BENCHMARK = Benchmark(name='not-ready', summary='', measure=lambda settings: [])\n",
        encoding="utf-8",
    )
    out = tmp_path / "not-ready.json"
    with pytest.raises(RuntimeError, match="yielded no figure"):
        main(["not-ready", "--out", str(out)], package=package)
    assert not out.exists()


@pytest.mark.parametrize(
    ("comparison", "below", "equal", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        ("==", False, True, False),
        (">=", False, True, True),
        (">", False, False, True),
    ],
)
def test_targets(comparison: str, below: bool, equal: bool, above: bool) -> None:
    target = Target(comparison, 2.0)
    assert [target.is_reached_by(value) for value in (1.0, 2.0, 3.0)] == [below, equal, above]


def test_bad_figures_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Figure(name="loss", value=math.nan, unit="nat")
    with pytest.raises(ValueError, match="compares by one of"):
        Target("=<", 1.0)


def test_interleaving_alternates_who_goes_first() -> None:
    calls: list[str] = []
    first, second = interleave(lambda: calls.append("a"), lambda: calls.append("b"), repeats=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert (len(first), len(second)) == (3, 3)
    with pytest.raises(ValueError, match="at least 1"):
        interleave(lambda: None, lambda: None, repeats=0)


def test_peak_memory_counts_what_was_given_back() -> None:
    use = peak_memory_of(_fill, 64 * MEBIBYTE)
    assert use.result == 64 * MEBIBYTE
    # The kernel counts a thread's last few pages late.
    assert 63 * MEBIBYTE < use.growth_bytes < 72 * MEBIBYTE


def test_peak_memory_is_not_inherited_from_this_process() -> None:
    ballast = bytearray(256 * MEBIBYTE)
    use = peak_memory_of(_fill, MEBIBYTE)
    assert use.growth_bytes < 16 * MEBIBYTE
    assert len(ballast) == 256 * MEBIBYTE


def test_imports_come_before_the_baseline() -> None:
    without = peak_memory_of(_import_numpy)
    beforehand = peak_memory_of(_import_numpy, imports=("numpy",))
    assert beforehand.growth_bytes < without.growth_bytes


def test_a_fresh_process_hands_its_exception_back() -> None:
    assert run_in_fresh_process(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        run_in_fresh_process(divmod, 7, 0)


def _fill(num_bytes: int) -> int:
    return len(bytearray(b"\1") * num_bytes)


def _import_numpy() -> None:
    import numpy  # noqa: F401


@pytest.mark.parametrize("name", benchmark_names())
def test_every_benchmark_can_be_loaded(name: str) -> None:
    benchmark = load_benchmark(name)
    assert isinstance(benchmark, Benchmark)
    assert benchmark.summary.strip().endswith(".")
    assert benchmark.seeds


def test_the_harness_is_no_benchmark() -> None:
    assert "harness" in {path.name for path in Path(benchmarks.__path__[0]).iterdir()}
    assert "harness" not in benchmark_names()
