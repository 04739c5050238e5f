"""The benchmarks of the wire run from the command line, also where neither flwr nor ray is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("wire", "aggregation", "startup", "step-overhead", "latency", "wire-precision")
WITHOUT_FRAMEWORKS = """
import sys
for name in ("flwr", "flwr_datasets", "ray", "datasets"):
    sys.modules[name] = None
from benchmarks.harness.command import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run_leaves_a_report(name: str, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    script = tmp_path / "bare.py"
    script.write_text(WITHOUT_FRAMEWORKS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), name, "--quick", "--out", str(out)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["quick"]
    assert all(figure["name"] and figure["unit"] for figure in report["figures"])
    if name == "wire":
        # Bytes, which no busy machine can change.
        assert not [f["name"] for f in report["figures"] if f["reached"] is False]
