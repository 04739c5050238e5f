"""The guide and the README: links lead somewhere, commands and keys exist, messages are ours."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

import hsplit_flower
from hsplit_flower.adapters import import_adapter
from hsplit_flower.cli import app
from hsplit_flower.cli.local_flower import local_superlink
from hsplit_flower.reports import read_run
from hsplit_flower.settings import GROUPS
from hsplit_flower.settings.reading import keys_of
from tests.documents import GUIDE, ROOT, blocks, pages, script
from tests.shells import new_user, typed

MOST_SECONDS = 180
"""What `hsplit new` and the first run may take together on two cores."""

LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
GAP = re.compile(r"…|%[-+.\d]*[sdrgf]")
KEY = re.compile(rf"(?<![\w./-])(?:{'|'.join(GROUPS)})\.(?!(?:log|md)\b)[a-z][a-z0-9-]+(?![\w(.])")
TESTS = {
    *("", "skip", "quick", "long", "network", "deployment", "conversations", "project"),
    *("fleet", "leases", "report", "alone", "worker", "device", "personal", "own"),
    *("look", "stop", "nlg", "end"),
}
ALL_TYPED = ("report", "simulation", "stopping", "using")
"""Pages of which no block is left to a reader to find out whether it runs."""


def linked_pages() -> list[Path]:
    """All pages that link to others."""
    top = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def prose(page: Path) -> str:
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    plain = (
        re.sub(r"[^\w\s-]", "", title).strip().lower() for title in HEADING.findall(prose(page))
    )
    return {re.sub(r"[-\s]+", "-", title) for title in plain}


@pytest.mark.parametrize("page", linked_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_and_headings_that_exist(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target}: there is no {linked}"
        if anchor:
            assert anchor in anchors(linked), f"{target}: there is no such heading"


def texts_of_the_code() -> Iterator[str]:
    """Every text in the code, with ``…`` for what is put into it."""
    for file in [*(ROOT / "hsplit_flower").rglob("*.py"), *(ROOT / "apps").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield GAP.sub("…", node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", "…") for part in node.values)
                yield GAP.sub("…", "".join(p if isinstance(p, str) else "…" for p in parts))


def test_messages_that_are_explained_are_those_of_the_code() -> None:
    page = (GUIDE / "errors.md").read_text(encoding="utf-8")
    quoted = [" ".join(one.split()) for one in re.findall(r"\*\*`(.*?)`", page, re.DOTALL)]
    assert len(quoted) > 20
    said = list(texts_of_the_code())
    for message in quoted:
        pieces = [re.escape(piece.strip()) for piece in GAP.split(message) if piece.strip()]
        pattern = re.compile(".*".join(pieces), re.DOTALL)
        assert any(map(pattern.search, said)), f"{message!r} is said nowhere"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = keys_of(GROUPS)
    for key in KEY.findall(page.read_text(encoding="utf-8")):
        assert key in known, f"{page.name} names {key}"


def hsplit_commands(page: Path) -> Iterator[list[str]]:
    """Every command of ours that a page shows, in words."""
    for block in blocks(page):
        if block.language == "sh":
            for line in block.code.replace("\\\n", " ").splitlines():
                if line.startswith("hsplit "):
                    yield shlex.split(line, comments=True)


def test_commands_and_options_that_are_shown_exist() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    shown = [command for page in pages() for command in hsplit_commands(page)]
    assert len(shown) > 8
    for _, name, *rest in shown:
        if name == "--help":
            continue
        assert name in group.commands, f"hsplit {name}"
        options = {o for p in group.commands[name].params for o in (*p.opts, *p.secondary_opts)}
        for word in rest:
            assert not word.startswith("--") or word in options, f"hsplit {name} {word}"


def test_every_test_that_a_page_asks_for_is_one_of_ours() -> None:
    assert {block.test for page in pages() for block in blocks(page)} <= TESTS


@pytest.mark.parametrize("name", ALL_TYPED)
def test_every_block_is_run_or_says_why_not(name: str) -> None:
    shown = list(blocks(GUIDE / f"{name}.md"))
    assert shown
    for block in shown:
        assert block.test, block.code
        assert block.reason or block.test not in {"skip", "network"}, block.code


def test_python_can_be_read_and_what_is_short_runs() -> None:
    shown = [block for page in pages() for block in blocks(page) if block.language == "python"]
    assert any(block.test == "quick" for block in shown)
    for block in shown:
        compiled = compile(block.code, str(block.page), "exec")
        if block.test == "quick":
            exec(compiled, {})


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with new_user(tmp_path / "flwr") as own:
        yield own


@pytest.mark.long
@pytest.mark.parametrize("name", ["install", "choosing", "simulation"])
def test_quick_commands_work(name: str, tmp_path: Path, environment: dict[str, str]) -> None:
    assert typed(script(GUIDE / f"{name}.md", "quick"), tmp_path / "here", environment)


@pytest.mark.long
@pytest.mark.network
def test_the_hub_is_asked_for_a_plan(tmp_path: Path, environment: dict[str, str]) -> None:
    online = {**environment, "HF_HUB_OFFLINE": "0"}
    said = typed(script(GUIDE / "simulation.md", "network"), tmp_path / "here", online)
    assert json.loads(said[said.index("{") :])


@pytest.mark.long
def test_the_fleet_that_is_shown_is_one(tmp_path: Path, environment: dict[str, str]) -> None:
    (shown,) = (block.code for block in blocks(GUIDE / "simulation.md") if block.test == "fleet")
    (tmp_path / "fleet.toml").write_text(shown, encoding="utf-8")
    said = typed("hsplit plan --model llama-tiny --fleet fleet.toml --json", tmp_path, environment)
    told = json.loads(said)
    devices = [(client["budget_bytes"], client["unavailable"]) for client in told["clients"]]
    assert devices == [(8e9, 0.1)] * 3
    assert told["worker"]["memory_bytes"] == 80e9


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_the_first_project_runs_in_three_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a run leaves its folder where its SuperLink was started
    started = time.monotonic()
    # The SuperLink that `flwr run` starts by itself has one port for all users of a machine.
    with local_superlink(tmp_path / "flwr", simulation=True) as flower:
        said = typed(
            script(GUIDE / "first-project.md", "long"), tmp_path / "here", flower.environment
        )
    seconds = time.monotonic() - started
    perplexities = [float(text) for text in re.findall(r"round \d: perplexity ([\d.]+)", said)]
    assert len(perplexities) == 2, said[-6000:]
    assert perplexities[1] < perplexities[0]
    assert seconds < MOST_SECONDS
    (folder,) = (tmp_path / "outputs").iterdir()
    (use,) = (block for block in blocks(GUIDE / "adapter.md") if block.language == "python")
    read: dict[str, Any] = {}
    exec(use.code.replace("outputs/RUN", str(folder)), read)
    assert any("lora_B" in name for name, _ in read["model"].named_parameters())


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_deployment_on_one_machine_trains(tmp_path: Path, environment: dict[str, str]) -> None:
    said = typed(script(GUIDE / "deployment.md", "deployment"), tmp_path / "here", environment)
    assert re.search(r"round 1: perplexity [\d.]+", said), said[-6000:]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_three_clients_train_on_files_of_their_own_in_three_formats(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    here = tmp_path / "here"
    shutil.copytree(ROOT / "apps" / "chat", here / "apps" / "chat")
    said = typed(script(GUIDE / "conversations.md", "conversations"), here, environment)
    trained, _, answer = said.rpartition("/outputs/offices/adapter")
    assert answer.strip(), said[-6000:]
    first, last = map(float, re.findall(r"([\d.]+) after round \d", trained))
    assert last < first, said[-6000:]
    run = read_run(here / "outputs" / "offices")
    for line in (*run.training, *run.client_evaluations):
        assert set(line.clients) == {"harbour", "market", "castle"}
    assert import_adapter(here / "outputs" / "offices" / "adapter")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site's generator is an extra: pip install .[docs]")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=True,
        capture_output=True,
    )
    pages_made = list((tmp_path / "site").rglob("*.html"))
    assert len(pages_made) > 30
    loaded = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=["']?(?:https?:)?//""")
    for page in pages_made:
        assert not loaded.search(page.read_text(encoding="utf-8")), page.name
    reference = (tmp_path / "site" / "reference" / "hsplit_flower.html").read_text("utf-8")
    headings = set(re.findall(r'<h2 id="hsplit_flower\.[\w.]*?(\w+)"', reference))
    assert headings == set(hsplit_flower.__all__)
