"""Runs many settings on the cores that there are, and keeps what came of each as it ends."""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.trial.kept import as_kept, key_of
from benchmarks.trial.setting import Setting

Curve = list[Any]
"""What a trial gives for each of its rounds: a number, or plain values by name."""


class Trials:
    """Runs what a file does not have yet, one thread a setting, and goes on where it stopped.

    Parameters
    ----------
    path
        Of the file, a line of JSON for each setting.
    curve_of
        A function of a module, so that other processes find it.
    """

    def __init__(self, path: Path, curve_of: Callable[[Setting], Curve]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._curve_of = curve_of
        self._known: dict[str, Curve] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                trial = json.loads(line)
                self._known[key_of(trial["setting"])] = trial["curve"]

    def run(self, settings: Iterable[Setting]) -> dict[Setting, Curve]:
        """The curve of each setting."""
        wanted = list(dict.fromkeys(settings))
        missing = [setting for setting in wanted if key_of(as_kept(setting)) not in self._known]
        if len(missing) < len(wanted):
            _say(f"{len(wanted) - len(missing)} of {len(wanted)} trials stand in {self._path}")
        context = multiprocessing.get_context("spawn")
        if missing:
            with ProcessPoolExecutor(num_cores(), mp_context=context) as pool:
                run = partial(_alone, self._curve_of)
                running = {pool.submit(run, setting): setting for setting in missing}
                for number, done in enumerate(as_completed(running), start=1):
                    self._write(running[done], done.result())
                    _say(f"trial {number} of {len(missing)}: {_told(done.result()[-1])}")
        return self.kept(wanted)

    def kept(self, settings: Iterable[Setting]) -> dict[Setting, Curve]:
        """The curves of those that were run."""
        keys = {setting: key_of(as_kept(setting)) for setting in settings}
        return {setting: self._known[key] for setting, key in keys.items() if key in self._known}

    def _write(self, setting: Setting, curve: Curve) -> None:
        values = as_kept(setting)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"setting": values, "curve": curve}) + "\n")
        self._known[key_of(values)] = curve


def num_cores() -> int:
    """How many cores the process may use: ``taskset`` takes some away."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _told(result: Any) -> Any:
    """The first of the values, where there are several by name."""
    return next(iter(result.values())) if isinstance(result, Mapping) else result


def _say(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def _alone(curve_of: Callable[[Setting], Curve], setting: Setting) -> Curve:
    import torch
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    return curve_of(setting)
