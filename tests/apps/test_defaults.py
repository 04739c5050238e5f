"""What the app's run-config states: every key, and of values those that differ from the default."""

import re
from typing import Any

import pytest

from hsplit_flower.settings.fields import Known
from hsplit_flower.settings.reading import keys_of

from .flower_app import APP

TABLE = "tool.flwr.app.config"
LINE = re.compile(r"^(?P<key>[\w-]+) = (?P<value>\"[^\"]*\"|[^\s#]+)(?:\s+# (?P<reason>\S.*))?$")
# A sentence, not a mark.
SHORTEST_REASON = 3

pytestmark = pytest.mark.usefixtures("app_on_the_path")


def lines_of_the_config() -> dict[str, re.Match[str]]:
    """The line of each key, with dots as Flower has it, as it stands in the file."""
    table, found = "", {}
    for line in (APP / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        elif line and not line.startswith("#") and f"{table}.".startswith(f"{TABLE}."):
            matched = LINE.match(line)
            assert matched is not None, f"{line!r}: KEY = VALUE, or KEY = VALUE # REASON"
            found[f"{table}.{matched['key']}".removeprefix(f"{TABLE}.")] = matched
    return found


def fields() -> dict[str, Known]:
    from nlg.run_config import App

    from hsplit_flower.settings import GROUPS

    return keys_of({"": App, **GROUPS})


def problem_of(value: Any, default: Any, reason: str | None) -> str | None:
    """What is wrong with a line, if anything is."""
    if isinstance(value, str) and not value:
        return None
    if value == default:
        return f"restates the default {default!r}"
    if len((reason or "").split()) < SHORTEST_REASON:
        return f"is {value!r} and not the default {default!r}, without a reason"
    return None


def test_every_field_is_a_key_and_every_key_a_field(settings: dict[str, Any]) -> None:
    assert set(settings) == set(fields())
    assert set(lines_of_the_config()) == set(settings), "all of them are read here"


def test_every_key_is_described(settings: dict[str, Any]) -> None:
    assert all(fields()[key].description.endswith((".", "?")) for key in settings)


def test_what_is_stated_differs_from_the_default_and_says_why(settings: dict[str, Any]) -> None:
    known, lines = fields(), lines_of_the_config()
    problems = {
        key: problem
        for key, value in settings.items()
        if (problem := problem_of(value, known[key].default, lines[key]["reason"]))
    }
    assert not problems


def test_a_secret_is_no_key() -> None:
    assert "worker.operator-token" not in fields()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('key = "" # whatever', None),
        ("key = 0.5", "restates the default"),
        ("key = 0.5 # because it is so", "restates the default"),
        ("key = 0.7", "without a reason"),
        ("key = 0.7 # tuned", "without a reason"),
        ("key = 0.7 # the built-in base is tiny", None),
    ],
)
def test_the_rule_is_kept_by_such_lines_alone(line: str, problem: str | None) -> None:
    matched = LINE.match(line)
    assert matched is not None
    value = "" if matched["value"] == '""' else float(matched["value"])
    found = problem_of(value, 0.5, matched["reason"])
    assert found is problem or (problem is not None and problem in str(found))
