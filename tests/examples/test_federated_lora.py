"""The example: an app with `FedAvg`, and the two lines that make its sums exact."""

import difflib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsplit_flower.cli.local_flower import LocalFlower, local_superlink, simulated_clients

EXAMPLE = Path(__file__).parents[2] / "examples" / "federated_lora"
APP = EXAMPLE / "federated_lora"
SETTINGS = "num-server-rounds=2 local-steps=3 evaluation-examples=16"
MEASURED = re.compile(r"after round (\d+): perplexity ([\d.]+)")


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlower]:
    """A SuperLink that simulates its nodes."""
    with local_superlink(tmp_path_factory.mktemp("flwr"), simulation=True) as running:
        yield running


def changed_lines() -> tuple[list[str], list[str]]:
    """The lines of the server that are taken out, and those that are put in."""
    before, after = (
        (APP / name).read_text(encoding="utf-8").splitlines()
        for name in ("server_app.py", "noise_free_server_app.py")
    )
    lines = list(difflib.ndiff(before, after))
    return tuple([line[2:] for line in lines if line[0] == sign] for sign in "-+")  # type: ignore[return-value]


def test_two_lines_of_the_server_change_and_no_other() -> None:
    assert changed_lines() == (
        [
            "from flwr.serverapp.strategy import FedAvg",
            "    strategy = FedAvg(fraction_evaluate=0.0)",
        ],
        [
            "from hsplit_flower import NoiseFreeLoRA",
            "    strategy = NoiseFreeLoRA(fraction_evaluate=0.0, "
            'peft_config=model.peft_config["default"])',
        ],
    )


def test_the_readme_shows_these_lines() -> None:
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    for sign, lines in zip("-+", changed_lines(), strict=True):
        for line in lines:
            assert f"{sign}{line}\n" in readme


@pytest.mark.long
@pytest.mark.timeout(300)
def test_both_servers_train_the_same_clients_on_flower(flower: LocalFlower, tmp_path: Path) -> None:
    curves = {}
    for server in ("server_app", "noise_free_server_app"):
        app = tmp_path / server
        shutil.copytree(EXAMPLE, app)
        project = (app / "pyproject.toml").read_text(encoding="utf-8")
        changed = project.replace("federated_lora.server_app:app", f"federated_lora.{server}:app")
        (app / "pyproject.toml").write_text(changed, encoding="utf-8")
        options = ["--run-config", SETTINGS, *simulated_clients(2)]
        finished = flower.run(app, options)
        assert finished.failure is None, finished.log[-6000:]
        curves[server] = {int(r): float(value) for r, value in MEASURED.findall(finished.log)}
        assert sorted(curves[server]) == [0, 1, 2], finished.log[-6000:]
        assert curves[server][2] < curves[server][0]
        is_exact = "Added up 2 clients exactly" in finished.log
        assert is_exact == (server == "noise_free_server_app")
    plain, exact = curves.values()
    assert plain[0] == exact[0]
    assert plain[2] != exact[2]
