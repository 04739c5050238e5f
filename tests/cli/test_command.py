"""``hsplit`` itself: what it offers, and how it says no."""

import argparse
import subprocess
import sys

import pytest

from hsplit_flower.cli import build_parser, main
from hsplit_flower.cli.plan import FLEETS
from hsplit_flower.simulation.presets import PRESETS
from hsplit_flower.worker.hosting import WorkerSettings

WHAT_CAME_ALONG = """
import sys
from hsplit_flower.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
print(status, *sorted({"torch", "transformers", "grpc", "flwr", "ray"} & set(sys.modules)))
"""


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (action,) = build_parser()._subparsers._group_actions  # type: ignore[union-attr]
    return dict(action.choices)  # type: ignore[arg-type]


def test_help_names_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hsplit_flower.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: hsplit")
    for command in ("plan", "worker", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["plan", "--help"], 0),
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


def test_every_option_is_described_with_its_default() -> None:
    for command, parser in commands().items():
        for action in parser._actions:
            told = f"{action.help or ''}"
            assert len(told.split()) >= 3, f"{command} {action.option_strings} is not described"
            is_flag = action.nargs == 0
            says_more = "(required)" if action.required else "(default: "
            assert is_flag or says_more in told, f"{command} {action.option_strings}: {says_more}?"


def test_a_workers_defaults_are_those_of_its_settings() -> None:
    parser, settings = commands()["worker"], WorkerSettings(model="llama-tiny")
    options = parser.parse_args(["--model", "llama-tiny"])
    for name in ("revision", "lowest_cut", "dtype", "attention", "device", "host", "max_sessions"):
        assert getattr(options, name) == getattr(settings, name), name
    assert options.max_message_mb * 2**20 == settings.max_message_bytes
    assert options.session_timeout == settings.session_timeout_seconds
    assert options.threads == settings.num_threads


def test_the_plans_fleets_are_the_presets() -> None:
    assert set(FLEETS) == set(PRESETS)


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
