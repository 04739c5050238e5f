"""Imports go down only: which room may import which, and which framework, read off the source.

The rooms and their order are those of ARCHITECTURE.md. A second part imports the core for real and
looks at what came along.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "hsplit_flower"

# The floors of the house, from the ground up: a room may import the rooms of lower floors.
FLOORS = (
    ("others_words", "sizes"),
    ("errors", "names", "rows", "types"),
    ("data", "metrics", "settings", "splitting"),
    ("adapters", "batches"),
    ("aggregation", "importance"),
    ("costs", "reports", "wire"),
    ("planning",),
    ("devices", "transport"),
    ("methods", "simulation", "worker"),
    ("client", "server"),
    ("strategies",),
    ("runs",),
    ("cli",),
    ("__init__",),
    ("apps",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# They run on a bare machine with torch, transformers, peft and pydantic.
CORE = {
    *(
        "others_words",
        "sizes",
        "errors",
        "names",
        "rows",
        "types",
        "settings",
        "metrics",
        "splitting",
        "adapters",
        "batches",
        "importance",
    ),
    *("aggregation", "costs", "planning", "wire"),
}

# Where each framework may be imported; a path stands for itself and all that lies below it.
FRAMEWORKS = {
    "flwr": {"server", "client/app", "client/answers", "runs", "apps"},
    "flwr_datasets": {"data"},
    "grpc": {"transport", "worker/service"},
    "ray": {"simulation", "devices/cards", "worker/pool"},
    "matplotlib": set(),
    # Extras, imported where they are used: `check_installed`, `nlg_scores` see that they are there.
    "bitsandbytes": {"splitting/quantised_linear", "splitting/quantised_loading"},
    "sacrebleu": {"metrics/bleu"},
    "pycocoevalcap": {"metrics/ptb_tokens", "metrics/meteor", "metrics/caption_scores"},
}

BANNED_FILE_NAMES = {"utils.py", "common.py", "helpers.py"}
MOST_LINES_PER_FILE = 300
MOST_LINES_PER_FUNCTION = 50


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module, by its full dotted name, and the line that imports it."""

    module: str
    line: int


def imports_of(source: str, module: str, *, is_package: bool) -> Iterator[Import]:
    """Every module that a source imports, wherever in it; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module=alias.name, line=node.lineno)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = module.split(".")
                up = node.level - 1 if is_package else node.level
                origin = ".".join(parts[: len(parts) - up] + ([node.module] if node.module else []))
            for alias in node.names:
                yield Import(module=f"{origin}.{alias.name}", line=node.lineno)


def room_of(module: str) -> str:
    """The room that a dotted name lies in: the first folder or file below the package."""
    top, *below = module.split(".")
    if top == "apps":
        return "apps"
    return below[0] if below else "__init__"


def may_use(framework: str, module: str) -> bool:
    """Whether a module of ours lies where the framework may be imported."""
    path = module.removeprefix(f"{PACKAGE}.").replace(".", "/")
    return any(path == place or path.startswith(f"{place}/") for place in FRAMEWORKS[framework])


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What a source imports although its room may not, one sentence each."""
    room = room_of(module)
    if room not in FLOOR_OF:
        return [f"{module}: the room {room!r} is on no floor of {Path(__file__).name}"]
    found = []
    for imported in imports_of(source, module, is_package=is_package):
        top, *below = imported.module.split(".")
        where = f"{module}:{imported.line}"
        if top == PACKAGE and below:
            target = below[0] if below[0] in FLOOR_OF else "__init__"
            if target != room and FLOOR_OF[target] >= FLOOR_OF[room]:
                found.append(f"{where} imports {imported.module}, which is not below {room}")
        elif top in FRAMEWORKS and not may_use(top, module):
            found.append(f"{where} imports {top}, which {room} may not")
    return found


def source_files() -> list[Path]:
    files = [*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "apps").rglob("*.py")]
    return sorted(file for file in files if "_pb2" not in file.name)


def dotted(path: Path) -> str:
    """``hsplit_flower/a/b.py`` and ``hsplit_flower/a/b/__init__.py`` are both hsplit_flower.a.b."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_go_down_only() -> None:
    found = [
        violation
        for file in source_files()
        for violation in violations(
            file.read_text(encoding="utf-8"), dotted(file), is_package=file.stem == "__init__"
        )
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hsplit_flower.types", "from hsplit_flower.errors import ConfigError"),
        ("hsplit_flower.errors", "from . import types"),
        ("hsplit_flower.splitting.half", "from hsplit_flower.adapters import LowRank"),
        ("hsplit_flower.splitting.half", "from ..adapters.low_rank import LowRank"),
        ("hsplit_flower.splitting.half", "from hsplit_flower import HSplitLoRA"),
        ("hsplit_flower.metrics.perplexity", "import hsplit_flower.splitting"),
        ("hsplit_flower.aggregation.naa", "from hsplit_flower import importance"),
        ("hsplit_flower.planning.cut", "def f():\n    import flwr.app"),
        ("hsplit_flower.worker.stage", "import grpc"),
        ("hsplit_flower.worker.stage", "from ..strategies import HSplitLoRA"),
        ("hsplit_flower.client.train", "import ray"),
        ("hsplit_flower.devices.machine", "from hsplit_flower.worker import pool"),
        ("hsplit_flower.strategies.hsplit_lora", "import matplotlib.pyplot as plt"),
        ("hsplit_flower.splitting.half", "from flwr_datasets import FederatedDataset"),
        ("hsplit_flower.metrics.nist", "import sacrebleu"),
        ("apps.nlg.server_app", "import ray"),
        ("hsplit_flower.cellar.wine", "import math"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "is_package", "source"),
    [
        ("hsplit_flower.splitting", True, "from .half import ClientHalf"),
        ("hsplit_flower.splitting", True, "from ..types import Span"),
        ("hsplit_flower.splitting.half", False, "from .boundary import Boundary\nimport torch"),
        ("hsplit_flower.planning.cut", False, "from hsplit_flower.importance import rngwp"),
        ("hsplit_flower.worker.service", False, "import grpc\nfrom ..transport import codec"),
        ("hsplit_flower.worker.pool.actors", False, "import ray.util"),
        ("hsplit_flower.server.split_strategy", False, "import flwr\nfrom ..worker import x"),
        ("apps.nlg.client_app", False, "import flwr\nfrom hsplit_flower import split_train"),
    ],
)
def test_a_right_import_is_let_pass(module: str, is_package: bool, source: str) -> None:
    assert violations(source, module, is_package=is_package) == []


def test_every_room_is_on_a_floor_and_every_floor_is_there() -> None:
    there = {path.stem for path in (ROOT / PACKAGE).iterdir() if path.suffix == ".py"}
    there |= {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    assert set(FLOOR_OF) == there | {"apps"}


def test_every_place_that_may_use_a_framework_does() -> None:
    used = {
        (imported.module.partition(".")[0], dotted(file))
        for file in source_files()
        for imported in imports_of(
            file.read_text(encoding="utf-8"), dotted(file), is_package=file.stem == "__init__"
        )
    }
    for framework, places in FRAMEWORKS.items():
        modules = {module for top, module in used if top == framework}
        for place in places:
            name = place.replace("/", ".")
            assert any(f".{name}." in f".{module}." for module in modules), (framework, place)


WHAT_CAME_ALONG = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    came = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
    if came:
        sys.exit(f"importing {name} pulls in {', '.join(came)}")
"""


@pytest.mark.parametrize(
    ("unwanted", "modules"),
    [
        (
            "flwr,grpc,ray,matplotlib,sacrebleu,pycocoevalcap",
            [f"{PACKAGE}.{room}" for room in sorted(CORE)],
        ),
        ("ray,matplotlib,sacrebleu,pycocoevalcap", [PACKAGE]),
    ],
    ids=["core", "root"],
)
def test_importing_pulls_in_no_framework(unwanted: str, modules: list[str]) -> None:
    # A process of its own: this one has long imported everything.
    done = subprocess.run(
        [sys.executable, "-c", WHAT_CAME_ALONG, unwanted, *modules],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def files_of_ours() -> list[Path]:
    folders = (PACKAGE, "apps", "benchmarks", "tests")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return [file for file in files if "_pb2" not in file.name]


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = [str(file) for file in files_of_ours() if file.name in BANNED_FILE_NAMES]
    assert not drawers, f"name these after the one thing that they hold: {drawers}"


def test_no_file_is_too_long() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in files_of_ours()
    }
    long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES_PER_FILE}
    assert not long, f"over {MOST_LINES_PER_FILE} lines, split these by what they hold: {long}"


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{file.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for file in files_of_ours()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES_PER_FUNCTION}
    assert not long, f"over {MOST_LINES_PER_FUNCTION} lines, name their parts: {long}"
