"""What every test may rely on: fixed seeds, one thread, no downloads, and where the data lies."""

import os

# Read when huggingface_hub is first imported, so before anything that imports it.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parents[1]
SEED = 2505

torch.set_num_threads(1)
# Laws are about values: a busy machine is no counterexample.
hypothesis.settings.register_profile("laws", deadline=None)
hypothesis.settings.load_profile("laws")


MANY_PROCESSES = {
    f"tests/{each}.py"
    for each in (
        "apps/test_deployed",
        "apps/test_simulation",
        "faults/test_faults",
        "simulation/test_lease",
        "strategies/test_worker_pool",
    )
}
"""Files whose tests start Ray, or a dozen processes: with two of them on two cores Ray's own do not
start within the 30 s that it gives them."""


class OneCrowdAtATime(LoadFileScheduling):
    """Gives test files to processes as they come, but those with many processes all to one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "many processes" if file in MANY_PROCESSES else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneCrowdAtATime:
    return OneCrowdAtATime(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--network", action="store_true", help="also run what needs the internet")


def _leave_repeats_to_the_long_tests(items: list[pytest.Item]) -> None:
    """Of a test that is marked ``one_in(n)``, mark all but each n-th of its parameters as long."""
    seen: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("one_in")
        if marker is None or item.get_closest_marker("long"):
            continue
        test, _, _ = item.nodeid.partition("[")
        if seen[test] % marker.args[0]:
            item.add_marker(pytest.mark.long)
        seen[test] += 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _leave_repeats_to_the_long_tests(items)
    unmet = {}
    if not torch.cuda.is_available():
        unmet["gpu"] = "needs a CUDA device, and torch sees none"
    if not config.getoption("--network"):
        unmet["network"] = "needs the internet; give --network to run it"
    for item in items:
        for marker, reason in unmet.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
    if "long" not in config.getoption("markexpr"):
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random state, whatever ran before it."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture
def unchecked_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let wrong shapes through to the library's own checks, as they get through for a user."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the data sets that lie beside the project and are not part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the data sets beside the project are not here: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def llama_tiny() -> Path:
    """Folder of the built-in base model."""
    return ROOT / "hsplit_flower" / "bases" / "llama-tiny"
