"""The folder of one run: settings, metrics, plan and adapter, each whole at any time.

``metrics.jsonl`` grows by a line a round and is on disk when the line is written; the other files
are replaced in one move, the folders ``adapter/``, ``best/`` and ``model/`` in two: a run that
stops between them leaves the former one, as ``adapter.old``. Nothing that was written is lost.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters import LowRank, export_adapter
from ..adapters.peft_checkpoint import CARD_FILE
from ..errors import ConfigError
from ..splitting import Checkpoint
from ..splitting.whole_weights import write_model
from .metrics import METRICS_FILE, AnyLine
from .plan import PLAN_FILE, PlanRecord
from .run import CONFIG_FILE, VOID_FILE
from .run_texts import RUN_TEXTS
from .storage import FolderClaim, replace_text, storing
from .summary import SUMMARY_FILE

RESULTS = ("adapter", "model")
"""Folders of what a run has learnt: an adapter, or the whole model where all of it is trained."""


class RunFolder:
    """``outputs/<run>/`` with ``config.json``, ``metrics.jsonl``, ``plan.json`` and ``adapter/``.

    Parameters
    ----------
    path
        Made if absent, and unmade where a ``with`` block of it fails before there was anything but
        settings to write; one that holds a run already is refused. A block that fails before there
        was a result leaves its metrics as ``metrics-void.jsonl``, and the name free; what one that
        was killed has left, without a result and without a summary, is renamed when another comes.
        That one's settings and texts are in their place from its first metrics on: if it comes to
        nothing before, the former's stay. While the block lasts no other run may write there.
    goes_on_after
        The last round of the run that is there already and goes on; what its metrics have of later
        rounds is taken off. None begins one.

    Raises
    ------
    ConfigError
        If a run is there, or another one is being written there.
    StorageError
        If it cannot be made.
    """

    def __init__(self, path: str | Path, *, goes_on_after: int | None = None) -> None:
        self.path = Path(path)
        self._goes_on_after = goes_on_after
        self._claim: FolderClaim | None = None
        self._former_config: str | None = None
        with storing(self.path):
            if goes_on_after is None:
                self._refuse_another_run()
            self._made = [each for each in (self.path, *self.path.parents) if not each.exists()]
            self.path.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "RunFolder":
        self._claim = FolderClaim(self.path)
        if self._goes_on_after is None:
            # It may have come while this one waited for its turn.
            self._refuse_another_run()
            self._set_aside()
            former = self.path / CONFIG_FILE
            if self._has(VOID_FILE) and former.exists():
                self._former_config = former.read_text(encoding="utf-8")
        else:
            self._take_off(after=self._goes_on_after)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._left(error)
        finally:
            if self._claim is not None:
                self._claim.let_go()

    def _refuse_another_run(self) -> None:
        if (self.path / METRICS_FILE).exists() and self._has(*RESULTS, SUMMARY_FILE):
            raise ConfigError(
                f"{self.path} holds a run already: choose another run-name, or let that run go on "
                "with resume"
            )

    def _has(self, *names: str) -> bool:
        return any((self.path / name).exists() for name in names)

    def _set_aside(self) -> None:
        """So that another run may have this name, as the second try of a simulation has."""
        if self._has(METRICS_FILE):
            (self.path / METRICS_FILE).replace(self.path / VOID_FILE)

    def _take_off(self, *, after: int) -> None:
        """Leave of the metrics what is of rounds up to this one, whole lines only."""
        path = self.path / METRICS_FILE
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        kept = [line for line in lines if json.loads(line)["server-round"] <= after]
        replace_text(self.path / METRICS_FILE, "".join(f"{line}\n" for line in kept))

    def _left(self, error: BaseException | None) -> None:
        if error is None or self._has(*RESULTS):
            return
        if self._has(METRICS_FILE):
            self._set_aside()
        elif self._made:
            self._unmake()
        elif self._former_config is not None:
            replace_text(self.path / CONFIG_FILE, self._former_config)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the run's settings."""
        self._replace(CONFIG_FILE, config)

    def write_plan(self, plan: PlanRecord) -> None:
        """Write the plan of a round."""
        self._replace(PLAN_FILE, plan.to_dict())

    def add_metrics(self, metrics: AnyLine) -> None:
        """Append one line, and see it onto the disk."""
        path, line = self.path / METRICS_FILE, json.dumps(_plain(metrics.to_dict())) + "\n"
        if not path.exists():
            # What people read of a run that came to nothing is not of this one.
            for name in RUN_TEXTS:
                (self.path / name).unlink(missing_ok=True)
        with storing(path), open(path, "a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def write_summary(self, files: Mapping[str, str]) -> None:
        """Write what people read of a run, by name of the file; nothing of one without metrics."""
        if self._has(METRICS_FILE):
            for name, text in files.items():
                replace_text(self.path / name, text)

    def write_adapter(
        self,
        updates: Mapping[str, LowRank],
        *,
        base_model: str,
        is_transposed: bool,
        revision: str = "",
        dtype: torch.dtype = torch.float32,
        card: str = "",
    ) -> Path:
        """Replace ``adapter/`` by what `export_adapter` writes of ``updates``."""
        with self._replaced("adapter") as fresh:
            export_adapter(
                updates,
                fresh,
                base_model=base_model,
                is_transposed=is_transposed,
                revision=revision,
                dtype=dtype,
                card=card,
            )
        return self.path / "adapter"

    def keep_as_best(self) -> Path:
        """Replace ``best/`` by a copy of the adapter that is there, card and all."""
        with self._replaced("best") as fresh:
            shutil.copytree(self.path / "adapter", fresh)
        return self.path / "best"

    def write_model(self, weights: Mapping[str, Tensor], *, base: Checkpoint) -> Path:
        """Replace ``model/`` by a checkpoint of all these parameters, float32."""
        with self._replaced("model") as fresh:
            fresh.mkdir()
            write_model(weights, fresh, base=base)
        return self.path / "model"

    def write_card(self, card: str) -> None:
        """Replace the card of the adapter that is there: what it is worth is known after it."""
        replace_text(self.path / "adapter" / CARD_FILE, card)

    @contextmanager
    def _replaced(self, name: str) -> Iterator[Path]:
        """A folder to be made, which takes the place of the one of this name when that is done."""
        target, fresh = self.path / name, self.path / f"{name}.new"
        former = self.path / f"{name}.old"
        shutil.rmtree(fresh, ignore_errors=True)
        with storing(target):
            yield fresh
            if target.exists():
                shutil.rmtree(former, ignore_errors=True)
                target.rename(former)
            fresh.rename(target)
        shutil.rmtree(former, ignore_errors=True)

    def _unmake(self) -> None:
        """Remove settings that nothing came of, and the folders that were made for them alone."""
        if {file.name for file in self.path.iterdir()} - {CONFIG_FILE}:
            return
        (self.path / CONFIG_FILE).unlink(missing_ok=True)
        for folder in self._made:
            if any(folder.iterdir()):
                return
            folder.rmdir()

    def _replace(self, name: str, value: Mapping[str, Any]) -> None:
        replace_text(self.path / name, json.dumps(_plain(value), indent=2) + "\n")


def _plain(value: Any) -> Any:
    """Numbers that JSON lacks become strings."""
    if (isinstance(value, float) and value in (float("inf"), float("-inf"))) or value != value:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
