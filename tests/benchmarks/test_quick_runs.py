"""Every benchmark runs from the command line with ``--quick``, and leaves a report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.catalogue import benchmark_names

ROOT = Path(__file__).resolve().parents[2]
WITH_FLOWER = (
    "main-job",
    "main-job-variants",
    "disturbed-run",
    "simulated-clock",
    "many-clients",
    "flowertune",
    "ablation",
    "adapter-growth",
    "budgets",
    "noise-free-lora",
    "study",
    "study-scores",
    "outages",
    "kill-loop",
    "soak",
)
WITH_DATA = (
    "main-job",
    "main-job-variants",
    "disturbed-run",
    "ablation",
    "adapter-growth",
    "wire-precision",
)
WITH_JAVA = ("study-scores",)
WITHOUT_CLOCK = ("wire", "noise-free-lora")
WITHOUT_FRAMEWORKS = """
import sys
for name in ("flwr", "flwr_datasets", "ray", "datasets"):
    sys.modules[name] = None
from benchmarks.harness.command import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


# Up to a minute or two each, most of it spent on starting processes.
@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", benchmark_names())
def test_a_quick_run_leaves_a_report(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name in WITH_DATA:
        request.getfixturevalue("shared_data")
    if name in WITH_JAVA and shutil.which("java") is None:
        pytest.skip("METEOR and the Penn Treebank tokenizer need Java")
    out = tmp_path / "report.json"
    start = ["-m", "benchmarks"]
    if name not in WITH_FLOWER:
        script = tmp_path / "bare.py"
        script.write_text(WITHOUT_FRAMEWORKS, encoding="utf-8")
        start = [str(script)]
    done = subprocess.run(
        [sys.executable, *start, name, "--quick", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["quick"]
    assert report["figures"]
    if name in WITHOUT_CLOCK:
        # Bytes and sums, which no busy machine can change.
        assert not [f["name"] for f in report["figures"] if f["reached"] is False]
