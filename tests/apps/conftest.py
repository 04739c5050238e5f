"""An app as Flower finds it, and its own run-config as Flower hands it over."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.common.config import flatten_dict

from .flower_app import APPS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def app_name() -> str:
    """Which of our apps; a test of another one says so by this name."""
    return "nlg"


@pytest.fixture
def app_on_the_path(app_name: str) -> Iterator[None]:
    """An app is not a part of the library: it is found where Flower would put it."""
    sys.path.insert(0, str(APPS / app_name))
    yield
    sys.path.remove(str(APPS / app_name))
    for name in [name for name in sys.modules if name.split(".")[0] == app_name]:
        del sys.modules[name]


@pytest.fixture
def settings(app_name: str) -> dict[str, Any]:
    """The app's own run-config: its tables, with dots in the keys."""
    with open(APPS / app_name / "pyproject.toml", "rb") as file:
        return dict(flatten_dict(tomllib.load(file)["tool"]["flwr"]["app"]["config"]))
