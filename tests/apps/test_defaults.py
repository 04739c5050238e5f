"""What an app's run-config states: every key, and of values those that differ from the default."""

import importlib
import re
from typing import Any

import pytest

from hsplit_flower.settings.fields import Known
from hsplit_flower.settings.reading import keys_of

from .flower_app import APPS

TABLE = "tool.flwr.app.config"
LINE = re.compile(r"^(?P<key>[\w-]+) = (?P<value>\"[^\"]*\"|[^\s#]+)(?:\s+# (?P<reason>\S.*))?$")
# A sentence, not a mark.
SHORTEST_REASON = 3

pytestmark = pytest.mark.usefixtures("app_on_the_path")
of_every_app = pytest.mark.parametrize("app_name", ["nlg", "chat"])


def lines_of_the_config(app: str) -> dict[str, re.Match[str]]:
    """The line of each key, with dots as Flower has it, as it stands in the file."""
    table, found = "", {}
    for line in (APPS / app / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        elif line and not line.startswith("#") and f"{table}.".startswith(f"{TABLE}."):
            matched = LINE.match(line)
            assert matched is not None, f"{line!r}: KEY = VALUE, or KEY = VALUE # REASON"
            found[f"{table}.{matched['key']}".removeprefix(f"{TABLE}.")] = matched
    return found


def fields(app: str) -> dict[str, Known]:
    run_config = importlib.import_module(f"{app}.run_config")
    return keys_of(run_config.RunConfig.groups())


def problem_of(value: Any, default: Any, reason: str | None) -> str | None:
    """What is wrong with a line, if anything is."""
    if isinstance(value, str) and not value:
        return None
    if value == default:
        return f"restates the default {default!r}"
    if len((reason or "").split()) < SHORTEST_REASON:
        return f"is {value!r} and not the default {default!r}, without a reason"
    return None


@of_every_app
def test_every_field_is_a_key_and_every_key_a_field(
    app_name: str, settings: dict[str, Any]
) -> None:
    assert set(settings) == set(fields(app_name))
    assert set(lines_of_the_config(app_name)) == set(settings), "all of them are read here"


@of_every_app
def test_every_key_is_described(app_name: str, settings: dict[str, Any]) -> None:
    assert all(fields(app_name)[key].description.endswith((".", "?")) for key in settings)


@of_every_app
def test_what_is_stated_differs_from_the_default_and_says_why(
    app_name: str, settings: dict[str, Any]
) -> None:
    known, lines = fields(app_name), lines_of_the_config(app_name)
    problems = {
        key: problem
        for key, value in settings.items()
        if (problem := problem_of(value, known[key].default, lines[key]["reason"]))
    }
    assert not problems


def test_a_secret_is_no_key() -> None:
    assert "worker.operator-token" not in fields("nlg")


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
