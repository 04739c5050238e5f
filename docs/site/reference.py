"""A hook of MkDocs: pages of the public names, a page a room, made from their docstrings."""

import ast
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = "hsplit_flower"
FOLDER = "reference"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation, after the settings."""
    assert config.nav is not None
    config.nav[-1]["Reference"] += [{title: path} for title, path, _ in _pages(_root(config))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for _, path, text in _pages(_root(config)):
        files.append(File.generated(config, path, content=text))
    return files


def _root(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent / PACKAGE


def _pages(package: Path) -> Iterator[tuple[str, str, str]]:
    """Title, path and text of each page: what the package itself offers, then each of its rooms."""
    for init in [package / "__init__.py", *sorted(package.glob("*/__init__.py"))]:
        module = ".".join((PACKAGE, *init.relative_to(package).parts[:-1]))
        if names := list(_exported(init)):
            text = [f"# {module}", *(f"::: {module}.{place}" for place in names)]
            yield module, f"{FOLDER}/{module.removeprefix(PACKAGE + '.')}.md", "\n\n".join(text)
    errors = f"{PACKAGE}.errors"
    members = f"[{', '.join(_own_errors(package))}]"
    options = f"    options: {{members: {members}, show_root_heading: false, heading_level: 1}}"
    yield errors, f"{FOLDER}/errors.md", f"# {errors}\n\n::: {errors}\n{options}"


def _own_errors(package: Path) -> Iterator[str]:
    """Errors but those that the package offers: what stood on two pages could not be linked to."""
    offered = set(_exported(package / "__init__.py"))
    for node in ast.parse((package / "errors.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and f"errors.{node.name}" not in offered:
            yield node.name


def _exported(init: Path) -> Iterator[str]:
    """Where each name is that a package offers, which is written ``from .place import X as X``."""
    for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for alias in node.names:
                if alias.asname == alias.name:
                    yield ".".join(filter(None, (node.module, alias.name)))
