"""What other libraries say at every start is in no log of ours; each is what they say."""

import os
import subprocess
import sys
from pathlib import Path

import ray._private.worker
import torch.jit._script

# As Flower's simulation has Python show them.
STARTS = """
import warnings
import flwr.app
warnings.filterwarnings("once", category=DeprecationWarning)
import hsplit_flower.client.app
import torch.utils.mkldnn
warnings.warn("Tip: In future versions of Ray, Ray will no longer override", FutureWarning)
warnings.warn("something that matters", FutureWarning)
"""


def test_a_process_that_loads_us_shows_what_matters_alone() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    started = subprocess.run(
        [sys.executable, "-c", STARTS], env=environment, capture_output=True, text=True, check=False
    )
    (line,) = [
        line for line in started.stderr.splitlines() if "Warning" in line or "kernel" in line
    ]
    assert "something that matters" in line


def test_what_is_left_out_is_what_they_say() -> None:
    for module, words in (
        (ray._private.worker, "Tip: In future versions of Ray"),
        (torch.jit._script, "`torch.jit.script_method` is"),
    ):
        assert words in Path(str(module.__file__)).read_text(encoding="utf-8")
