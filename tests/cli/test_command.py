"""``hsplit`` itself: what it offers, and how it says no."""

import subprocess
import sys

import pytest

from hsplit_flower.cli import main


def test_help_names_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hsplit_flower.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: hsplit")
    for command in ("worker", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("worker", ("--model", "--port PORT", "default: 8600", "$HSPLIT_OPERATOR_TOKEN")),
        ("demo", ("--output-dir", "default: outputs", "--run-config")),
    ],
)
def test_a_commands_help_says_its_options_and_what_they_are_by_default(
    command: str, told: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in told:
        assert words in text


@pytest.mark.parametrize("arguments", [[], ["sing"], ["worker"], ["worker", "--port", "high"]])
def test_what_it_does_not_know_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: hsplit" in capsys.readouterr().err
