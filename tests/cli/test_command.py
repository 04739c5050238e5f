"""``hsplit`` itself: what it offers, and how it says no."""

import subprocess
import sys

import click
import pytest
import typer

from hsplit_flower.cli import app, main, plan
from hsplit_flower.settings import Link, Model, Worker
from hsplit_flower.simulation.presets import PRESETS

WHAT_CAME_ALONG = """
import sys
from hsplit_flower.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
print(status, *sorted({"torch", "transformers", "grpc", "flwr", "ray"} & set(sys.modules)))
"""


def commands() -> dict[str, click.Command]:
    """Each command."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    return group.commands


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """A command's help, in one line."""
    assert main([command, "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_names_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hsplit_flower.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Usage: hsplit")
    for command in ("plan", "worker", "demo", "export", "evaluate", "settings"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["plan", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["plan", "--model", "llama-tiny", "--batch", "many"], 2),
        (["plan", "--model", "llama-tiny", "--batch", "0"], 1),
        (["worker", "--model", "llama-tiny", "--port", "-1"], 1),
        (["demo", "--app", "/nowhere"], 1),
    ],
)
def test_what_computes_nothing_waits_for_no_framework(arguments: list[str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHAT_CAME_ALONG, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == str(status)


def test_every_option_is_described_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in commands().items():
        text = help_of(name, capsys)
        options = [each for each in command.params if isinstance(each, click.Option)]
        assert options
        for option in options:
            told = f"{option.help or ''}"
            assert len(told.split()) >= 3, f"{name} {option.opts} is not described"
            assert " ".join(told.split()) in text
            for spelling in option.opts:
                assert f" {spelling}" in text
            _, _, after = text.partition(" ".join(told.split()))
            says_more = "default: " in told or after.startswith((" [default: ", " [required]"))
            assert option.is_flag or says_more, f"{name} {option.opts}"


def test_every_option_of_plan_has_its_fields_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("plan", capsys)
    for offer in plan.OPTIONS.offers:
        for option in offer.options():
            assert option.field.description in text
            assert all(str(choice) in text for choice in option.field.choices)
    for fleet in PRESETS:
        assert fleet in text


def test_a_workers_defaults_are_those_of_its_settings() -> None:
    from hsplit_flower.cli.worker import OPTIONS, OwnProcess

    chosen = OPTIONS.read({"model": "llama-tiny"})
    assert chosen[Model] == Model(name="llama-tiny")
    assert chosen[Worker] == Worker(port=8600)
    assert chosen[Link] == Link()
    assert chosen[OwnProcess].lowest_cut == 1


def test_help_fits_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for name in commands():
        assert main([name, "--help"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert not any("\\[" in line or "…" in line for line in lines)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("worker", ("--model", "--port INTEGER", "default: 8600", "$HSPLIT_OPERATOR_TOKEN")),
        ("demo", ("--output-dir", "default: outputs", "--run-config")),
    ],
)
def test_a_commands_help_says_its_options_and_what_they_are_by_default(
    command: str, told: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(command, capsys)
    for words in told:
        assert words in text


@pytest.mark.parametrize("arguments", [[], ["sing"], ["worker"], ["worker", "--port", "high"]])
def test_what_it_does_not_know_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Usage: hsplit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["pln"], "plan"),
        (["plan", "--model", "llama-tiny", "--batch-sise", "2"], "--batch-size"),
        (["plan", "--model", "llama-tiny", "--dtype", "float8"], "'bfloat16'"),
    ],
)
def test_what_is_mistyped_is_told_with_what_is_nearest(
    arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert nearest in capsys.readouterr().err
