"""The page as a file."""

from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError
from ..run import read_run
from ..storage import replace_text, storing
from .document import page

REPORT_FILE = "report.html"


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page about these runs, in one move, and give its path.

    Parameters
    ----------
    folders
        Of the runs, which may still go on.
    out
        Where it is written; ``report.html`` in the folder of one run, or here where there are
        several, if None.

    Raises
    ------
    ConfigError
        If a folder holds no run that can be read.
    StorageError
        If it cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    for run, folder in zip(runs, folders, strict=True):
        if not (run.lines or run.config):
            raise ConfigError(f"{folder} holds no run: the folder is wanted that a run has left")
    document = page(runs)
    target = out or (folders[0] / REPORT_FILE if len(folders) == 1 else Path(REPORT_FILE))
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    replace_text(target, document)
    return target
