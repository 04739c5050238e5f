"""``hsplit export`` as it is typed, and what it says."""

import pytest

from hsplit_flower.cli import main


def exported(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["export", *map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["export", *map(str, arguments)]) == 1
    output = capsys.readouterr()
    assert not output.out
    return output.err
