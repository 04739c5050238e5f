"""``hsplit new``: what it makes is written as ours is, and says no where nothing can be made."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.cli import main
from hsplit_flower.errors import ConfigError, DataError
from tests.documents import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME, PACKAGE = "quiet-clinics", "quiet_clinics"
FILES = {
    ".gitignore",
    "README.md",
    "pyproject.toml",
    *(
        f"{PACKAGE}/{name}.py"
        for name in ("__init__", "client_app", "data", "record", "run_config", "server_app")
    ),
}
MOST_LINES = 60


@pytest.fixture
def project(tmp_path: Path) -> Path:
    assert main(["new", NAME, "--folder", str(tmp_path)]) == 0
    return tmp_path / NAME


@pytest.fixture
def package(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The made package, where it can be imported."""
    monkeypatch.syspath_prepend(str(project))
    yield PACKAGE
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


def settings_of(project: Path) -> dict[str, Any]:
    """The run-config that Flower makes of the project's tables."""
    app = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]
    flat: dict[str, Any] = {}
    for name, value in app["app"]["config"].items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def test_it_makes_these_files_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", NAME, "--folder", str(tmp_path)]) == 0
    project = tmp_path / NAME
    made = {str(file.relative_to(project)) for file in project.rglob("*") if file.is_file()}
    assert made == FILES
    said = capsys.readouterr().out
    assert all(f"made {project / name}\n" in said for name in FILES)
    assert f"flwr run {project} --stream" in said


def test_no_file_is_long(project: Path) -> None:
    for file in (project / PACKAGE).glob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, file.name


def test_it_is_formatted_and_linted_as_ours_is(project: Path) -> None:
    config = ["--config", str(ROOT / "pyproject.toml")]
    own = ["--config", f"lint.isort.known-first-party = ['hsplit_flower', '{PACKAGE}']"]
    for command in (["format", "--check", *config], ["check", *config, *own]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, str(project)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(300)
def test_it_is_typed(project: Path) -> None:
    config = ["--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *config, "--strict", "--follow-imports=silent", PACKAGE],
        cwd=project,
        env={"PATH": "", "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_keys_are_read(project: Path, package: str) -> None:
    config = importlib.import_module(f"{package}.run_config").RunConfig
    read = config.read(settings_of(project))
    assert read.project.num_server_rounds == 2
    with pytest.raises(ConfigError, match="did you mean 'local-steps'"):
        config.read({"local-stepz": 3})


def test_a_client_has_its_own_texts_where_its_node_config_names_them(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = importlib.import_module(f"{package}.data")
    one = json.dumps({"prompt": "name[The Mill]", "target": "Welcome to The Mill."})
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "train.jsonl").write_text(f"{one}\n{one}\n", encoding="utf-8")
    named = data.examples_of({"texts": str(tmp_path / "0")}, "train")
    monkeypatch.setenv("HSPLIT_TEXTS", str(tmp_path))
    found = data.examples_of({"partition-id": 0, "num-partitions": 2}, "train")
    assert named == found
    assert [example.reference for example in named] == ["Welcome to The Mill."] * 2


def test_clients_without_texts_divide_the_built_in_ones(package: str) -> None:
    data = importlib.import_module(f"{package}.data")
    parts = [data.examples_of({"partition-id": n, "num-partitions": 3}, "dev") for n in range(3)]
    whole = data.examples_of({}, "dev")
    assert sum(map(len, parts)) == len(whole) > 3
    assert {example.meaning for part in parts for example in part} == {e.meaning for e in whole}


@pytest.mark.parametrize("text", ["{", '{"prompt": "a"}', "[1]", "3"])
def test_texts_that_cannot_be_read_are_told_with_their_file(
    text: str, tmp_path: Path, package: str
) -> None:
    data = importlib.import_module(f"{package}.data")
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.jsonl.*on each line is wanted"):
        data.examples_of({"texts": str(tmp_path)}, "train")


def test_what_is_there_is_not_touched(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "README.md").write_text("mine", encoding="utf-8")
    assert main(["new", NAME, "--folder", str(project.parent)]) == 1
    assert "exists already, and nothing is overwritten" in capsys.readouterr().err
    assert (project / "README.md").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "name", ["", "My-Project", "2nd", "a b", "../up", "a/b", "class", "-x", "é", "a--b", "a-"]
)
def test_a_name_that_no_package_can_have_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "--folder", str(tmp_path), "--", name]) == 1
    assert "cannot be a project's name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["torch", "hsplit-flower", "json", "flwr"])
def test_a_name_that_would_hide_a_package_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", name, "--folder", str(tmp_path)]) == 1
    assert "is the name of a Python package that is installed here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_what_it_writes_of_a_round_is_read_again(package: str, tmp_path: Path) -> None:
    from flwr.app import Context, Message, RecordDict

    from benchmarks.tools.threads import ThreadGrid
    from hsplit_flower.reports import read_run

    config = settings_of(tmp_path / NAME) | {
        "num-server-rounds": 1,
        "local-steps": 1,
        "evaluation-examples": 4,
        "output-dir": str(tmp_path / "outputs"),
    }
    server = importlib.import_module(f"{package}.server_app").app
    clients = importlib.import_module(f"{package}.client_app").app

    def answer(message: Message, context: Context) -> Message:
        context.run_config = config
        reply: Message = clients(message, context)
        return reply

    nodes = {1 + part: {"partition-id": part, "num-partitions": 2} for part in range(2)}
    with ThreadGrid(answer, nodes, num_threads=1) as grid:  # type: ignore[arg-type]
        told = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
        server(grid, told)
    (folder,) = (tmp_path / "outputs").iterdir()
    run = read_run(folder)
    assert [line.server_round for line in run.training] == [1]
    assert len(run.client_evaluations) == 1
    assert run.plan is not None and len(run.plan.clients) == 2
    assert run.config["simulation"]["fleet"] == "heterogeneous"
    left = {path.name for path in folder.iterdir()}
    assert {"adapter", "clients.csv", "report.html", "state.safetensors", "summary.md"} <= left
