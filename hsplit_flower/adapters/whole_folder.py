"""A folder that is there when all of it is: made under another name, and moved in one step."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ..errors import ConfigError


def check_is_free(folder: str | Path, *, advice: str = "name another one") -> None:
    """Refuse a folder in which something is.

    Raises
    ------
    ConfigError
        If it is no folder, or not empty; it ends with the advice.
    """
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path} is there already and not an empty folder: {advice}")


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of ``folder`` when that is done.

    Nothing is left of one whose filling fails, and what was there is there still.
    """
    target = Path(folder).resolve()
    names = (target.with_name(f"{target.name}.new{number or ''}") for number in count())
    fresh = next(path for path in names if not path.exists())
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
