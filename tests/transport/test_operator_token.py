"""Where the token of a worker's operator comes from, and what is said where there is none."""

from pathlib import Path

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import (
    OPERATOR_TOKEN_FILE_VARIABLE,
    OPERATOR_TOKEN_VARIABLE,
    Model,
    RunSettings,
    Worker,
)
from hsplit_flower.transport.operator_token import token_towards

FILED, SHOWN, GIVEN = (f"a token that is {where}" for where in ("in a file", "shown", "given"))
ADDRESS = "far:8600"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (OPERATOR_TOKEN_VARIABLE, OPERATOR_TOKEN_FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def filed(folder: Path, token: str = FILED) -> str:
    path = folder / "worker.token"
    path.write_text(f"{token}\n", encoding="utf-8")
    return str(path)


def test_the_nearest_place_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPERATOR_TOKEN_VARIABLE, SHOWN)
    assert token_towards(Worker(address=ADDRESS)) == SHOWN
    monkeypatch.setenv(OPERATOR_TOKEN_FILE_VARIABLE, filed(tmp_path))
    assert token_towards(Worker(address=ADDRESS)) == FILED
    named = Worker(address=ADDRESS, operator_token_file=filed(tmp_path))
    monkeypatch.delenv(OPERATOR_TOKEN_FILE_VARIABLE)
    assert token_towards(named) == FILED
    assert token_towards(named.replace(operator_token=GIVEN)) == GIVEN


def test_a_file_is_read_when_it_is_wanted(tmp_path: Path) -> None:
    """The token may change between two runs of one SuperLink."""
    worker = Worker(address=ADDRESS, operator_token_file=filed(tmp_path))
    assert token_towards(worker) == FILED
    filed(tmp_path, SHOWN)
    assert token_towards(worker) == SHOWN


def test_none_is_refused_with_all_places_where_it_could_be() -> None:
    with pytest.raises(ConfigError) as caught:
        token_towards(Worker(address=ADDRESS))
    for place in (
        "worker.operator-token-file",
        OPERATOR_TOKEN_FILE_VARIABLE,
        OPERATOR_TOKEN_VARIABLE,
    ):
        assert place in str(caught.value)


def test_who_writes_is_told_of_the_token_for_that(tmp_path: Path) -> None:
    for worker in (
        Worker(address=ADDRESS),
        Worker(address=ADDRESS, operator_token_file=str(tmp_path / "gone")),
    ):
        with pytest.raises(ConfigError, match="given as --writer-token-file to this machine"):
            token_towards(worker, is_to_write=True)


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        ("", "holds no token"),
        ("short", "has 5 characters: 16"),
        ("short, and on\nmore lines than one", "is of several lines or has letters beyond ASCII"),
        ("short, and in letters of мир", "beyond ASCII, which no call can carry: one line of ASC"),
    ],
)
def test_a_file_without_a_usable_token_is_named_and_not_shown(
    tmp_path: Path, token: str, complaint: str
) -> None:
    path = filed(tmp_path, token)
    with pytest.raises(ConfigError, match=complaint) as caught:
        token_towards(Worker(address=ADDRESS, operator_token_file=path))
    assert path in str(caught.value) and "short" not in str(caught.value)
    with pytest.raises(ConfigError, match="a text file that can be read"):
        token_towards(Worker(address=ADDRESS, operator_token_file=str(tmp_path)))
    if token:
        with pytest.raises(ConfigError, match="operator_token must be a secret of 16") as caught:
            Worker(operator_token=token)
        assert "short" not in str(caught.value)


def test_no_token_is_among_the_settings_that_are_shown(tmp_path: Path) -> None:
    worker = Worker(address=ADDRESS, operator_token=GIVEN, operator_token_file=filed(tmp_path))
    settings = RunSettings(model=Model(), worker=worker)
    for secret in (GIVEN, FILED):
        assert secret not in f"{settings!r} {settings.shown()}"
