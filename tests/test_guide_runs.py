"""The guide's pages about runs, typed as they stand there: simulate, look, stop, go on, and write.

The apps are copies whose own settings ask for less; what is typed is what the pages show, with the
names of real runs where they say ``RUN``, ``ONE`` and ``OTHER``.
"""

import json
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsplit_flower.adapters import import_adapter
from hsplit_flower.cli.local_flower import free_port
from hsplit_flower.reports import Run, read_run
from tests.desk import Desk, rounds_done, shown
from tests.documents import GUIDE, ROOT, blocks, script
from tests.shells import new_user
from tests.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

MANY_ROUNDS = 40
"""So many that nobody is done with them before the run is stopped."""
THREE = "--federation-config 'num-supernodes=3 client-resources-num-cpus=1'"
FIVE = THREE.replace("=3", "=5")


def set_in(app: Path, **values: int) -> None:
    """Change settings where an app keeps its own."""
    file = app / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    for name, value in values.items():
        key = name.replace("_", "-")
        text, found = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert found == 1, key
    file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("here")
    for app in ("nlg", "chat"):
        shutil.copytree(ROOT / "apps" / app, folder / "apps" / app)
    set_in(folder / "apps" / "nlg", num_server_rounds=2, local_steps=4, evaluation_examples=64)
    with new_user(tmp_path_factory.mktemp("home") / "flwr") as environment:
        yield Desk(folder, environment)


@pytest.fixture(scope="module")
def simulated(desk: Desk) -> Path:
    """The folder that is left by the simulation of the page about them."""
    said = desk.simulate(shown("simulation", "leases"))
    assert len(desk.runs()) == 1, said[-6000:]
    return desk.runs()[0]


def rounds_of(run: Run) -> list[int]:
    return [line.server_round for line in run.training]


def test_a_simulation_shares_a_card_by_budgets(simulated: Path) -> None:
    run = read_run(simulated)
    assert rounds_of(run) == [1, 2] and all(line.completed for line in run.training)
    for line in run.training:
        granted = sorted(part.budget_bytes for part in line.clients.values())
        assert granted == pytest.approx([5e9, 8e9, 8e9])
    assert run.config["simulation"]["lease-card-gb"] == 20.0


def test_a_run_leaves_what_the_page_says_and_its_report_has_these_parts(
    desk: Desk, simulated: Path
) -> None:
    page = (GUIDE / "report.md").read_text(encoding="utf-8")
    files, parts = page.split("## Which part answers what")
    told = {name.rstrip("/") for name in re.findall(r"^\| `([\w./]+)` \|", files, re.MULTILINE)}
    assert told == {each.name for each in simulated.iterdir()}
    shutil.copytree(simulated, desk.folder / "outputs" / "again", dirs_exist_ok=True)
    (simulated / "report.html").unlink()
    names = {"RUN": simulated.name, "ONE": simulated.name, "OTHER": "again"}
    said = desk.type(shown("report", "report", **names))
    made = [Path(path) for path in re.findall(r"^(/\S+\.html) \(", said, re.MULTILINE)]
    assert made == [simulated / "report.html", desk.folder / "compared.html"]
    own, compared = (path.read_text(encoding="utf-8") for path in made)
    named = re.findall(r"^\|[^|]+\| ([A-Z][\w ]+?)(?=[:,] | \|)", parts, re.MULTILINE)
    assert len(set(named)) == 9
    for title in named:
        assert f"<h2>{title}</h2>" in own, title
    assert simulated.name in compared and "again" in compared
    assert "Settings in which they differ" in compared


def test_the_whole_model_writes_and_a_seed_draws_the_same(desk: Desk, simulated: Path) -> None:
    first, again = (
        desk.type(shown("using", "alone", RUN=simulated.name), lines="Who is there?\nAnd now?\n")
        for _ in range(2)
    )
    assert first == again
    likeliest, drawn, followed, answered = written(first)
    assert likeliest and followed and drawn not in {"", likeliest}
    assert len(answered.splitlines()) >= 2


def written(said: str) -> list[str]:
    """What came of each command that a shell has shown."""
    shown = re.split(r"^\+ (?:hsplit .*)\n", said, flags=re.MULTILINE)
    return [text.strip() for text in shown[1:]]


def test_a_device_with_a_worker_writes_what_the_whole_model_writes(
    desk: Desk, simulated: Path, tmp_path: Path
) -> None:
    names = {"RUN": simulated.name}
    log = tmp_path / "worker.log"
    (code,) = (
        block.code
        for block in blocks(GUIDE / "using.md")
        if (block.language, block.test) == ("python", "device")
    )
    (tmp_path / "texts.py").write_text(
        f"{code.replace('RUN', simulated.name)}\nimport json\nprint(json.dumps(texts))\n",
        encoding="utf-8",
    )
    with desk.typing(shown("using", "worker", **names), log):
        wait_until(lambda: "on 127.0.0.1:8600, adapter" in log.read_text(encoding="utf-8"), 60)
        split = desk.type(shown("using", "device", **names))
        several = desk.type(f"{sys.executable} {tmp_path / 'texts.py'}")
    alone = desk.type(f"hsplit generate --adapter outputs/{simulated.name} 'The first line'")
    assert written(split) == [alone.strip()]
    texts = json.loads(several.splitlines()[-1])
    assert len(texts) == 2 and all(texts)
    assert alone.startswith(texts[0])  # which is of 40 tokens


def test_each_client_keeps_an_adapter_of_its_own(desk: Desk, tmp_path: Path) -> None:
    prepared, found, _ = script(GUIDE / "conversations.md", "conversations").partition("flwr run")
    assert found
    set_in(desk.folder / "apps" / "chat", num_server_rounds=1, local_steps=4)
    before = set(desk.runs())
    with new_user(tmp_path / "flwr") as environment:
        other = Desk(desk.folder, environment)
        ended = "kill $(jobs -p)\nwait\n"
        said = other.type(f"{prepared}{script(GUIDE / 'using.md', 'personal')}{ended}")
        assert "local (default)" in other.type("flwr config list"), "simulations have none"
    (folder,) = set(desk.runs()) - before
    line = read_run(folder).personalisation
    assert line is not None and set(line.clients) == {"harbour", "market", "castle"}, said[-6000:]
    for file in ("harbour.jsonl", "market.csv", "castle.parquet"):
        assert import_adapter(desk.folder / f"{file}-personal-adapter")
    rows = (desk.folder / "harbour.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (desk.folder / "mine.jsonl").write_text("".join(rows[:20]), encoding="utf-8")
    (desk.folder / "harbour.jsonl-personal-adapter").rename(
        desk.folder / "mine.jsonl-personal-adapter"
    )
    used = written(desk.type(shown("using", "own", RUN=folder.name)))
    assert used[0]
    assert re.search(r"perplexity\D+\d", used[1])


def test_a_run_outlives_its_display_is_stopped_and_goes_on(desk: Desk, tmp_path: Path) -> None:
    desk.type("hsplit new my-project")
    app = desk.folder / "my-project"
    set_in(app, num_server_rounds=MANY_ROUNDS)
    before = set(desk.runs())
    log = tmp_path / "run.log"
    with desk.typing(f"exec flwr run my-project --stream {THREE}", log) as display:
        wait_until(lambda: set(desk.runs()) - before, 300)
        display.send_signal(signal.SIGINT)
        display.wait(60)
    (folder,) = set(desk.runs()) - before
    (number,) = re.findall(r"run (\d{8,})", log.read_text(encoding="utf-8"))
    again = tmp_path / "again.log"
    with desk.typing(shown("stopping", "look", RUN_ID=number), again) as display:
        wait_until(lambda: "[ROUND 1/" in again.read_text(encoding="utf-8"), 300)
        assert re.search(rf"{number}.* running ", again.read_text(encoding="utf-8"))
        assert "successfully stopped" in desk.type(shown("stopping", "stop", RUN_ID=number))
        assert display.wait(60) == 0
    wait_until(
        lambda: not any("ray" in " ".join(each.info["cmdline"] or ()) for each in desk.programs()),
        90,
    )
    left = {"adapter", "metrics.jsonl", "plan.json", "state.safetensors"}
    assert left <= {each.name for each in folder.iterdir()}
    done = rounds_done(folder)
    assert done < MANY_ROUNDS
    set_in(app, num_server_rounds=done + 1)
    said = desk.simulate(going_on("project", folder))
    assert f"The run has left {folder}" in said, said[-6000:]
    assert rounds_of(read_run(folder)) == list(range(1, done + 2))


def test_a_run_of_the_large_app_goes_on_with_more_rounds(desk: Desk) -> None:
    app = desk.folder / "apps" / "nlg"
    before = set(desk.runs())
    try:
        set_in(app, num_server_rounds=1)
        desk.simulate(f"flwr run apps/nlg --stream {FIVE}")
        (folder,) = set(desk.runs()) - before
        assert rounds_done(folder) == 1
    finally:
        set_in(app, num_server_rounds=2)
    said = desk.simulate(going_on("nlg", folder))
    assert rounds_of(read_run(folder)) == [1, 2], said[-6000:]
    assert set(desk.runs()) - before == {folder}


def test_the_superlink_that_flwr_run_has_started_is_ended_alone(desk: Desk, tmp_path: Path) -> None:
    desk.type("flwr list")  # which starts it, as flwr run does
    log = tmp_path / "superlink.log"
    port = free_port()
    own = f"exec flower-superlink --insecure --host 127.0.0.1 --port {port}"
    with desk.typing(own, log) as superlink:
        wait_until(lambda: f"{port}" in log.read_text(encoding="utf-8"), 60)
        assert len({each.pid for each in desk.programs()} - {superlink.pid}) >= 1
        desk.type(shown("stopping", "end"))
        others = {each.pid for each in desk.programs("flower-superlink")}
        assert others == {superlink.pid}
    assert desk.type("flwr list")


def going_on(test: str, folder: Path) -> str:
    """The commands by which a run goes on, with its folder."""
    return shown("stopping", test).replace("/path/to/outputs/RUN", str(folder))
