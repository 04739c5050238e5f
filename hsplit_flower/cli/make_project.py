"""Making a Flower project from the templates in ``new_project/``."""

import importlib.metadata
import importlib.util
import keyword
import re
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..errors import ConfigError

TEMPLATES = Path(__file__).with_name("new_project")
ENDING = ".jinja"
PACKAGE_FOLDER = "package"
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


def made_project(name: str, parent: Path) -> list[Path]:
    """Make the folder of a project that runs, and give its files.

    Parameters
    ----------
    name
        Of the project and of its folder; its Python package has underscores for dashes.
    parent
        The folder that it is made in; made if absent.

    Raises
    ------
    ConfigError
        If it cannot be a name, or such a folder or file is there already.
    """
    package = _package_of(name)
    root = parent / name
    if root.exists():
        raise ConfigError(
            f"{root} exists already, and nothing is overwritten: choose another name, or another "
            "--folder"
        )
    facts = {"name": name, "package": package, "flower": importlib.metadata.version("flwr")}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    texts = {
        root / _place(template, package): environment.get_template(template).render(facts)
        for template in environment.list_templates(extensions=[ENDING[1:]])
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _place(template: str, package: str) -> Path:
    """Where in the project a template's text goes."""
    path = Path(template.removesuffix(ENDING))
    inner = path.parts[0] == PACKAGE_FOLDER
    return Path(package, *path.parts[1:]) if inner else path


def _package_of(name: str) -> str:
    """The Python package that the name makes, if it can be one."""
    package = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(package):
        raise ConfigError(
            f"{name!r} cannot be a project's name: small letters, digits and dashes are wanted, a "
            "letter first, and no word of Python's own, such as my-project"
        )
    if package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None:
        raise ConfigError(
            f"{name!r} is the name of a Python package that is installed here, which a project of "
            "that name would hide: choose another name"
        )
    return package
