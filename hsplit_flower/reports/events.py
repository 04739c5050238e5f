"""A run's metrics as events for TensorBoard, written while the run goes on.

Only with this is TensorBoard imported, which is an extra of the package.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .client_records import EvaluatedClient, TrainedClient
from .metrics import (
    ClientEvaluationLine,
    FederatedLine,
    PersonalisationLine,
    ServerEvaluationLine,
)
from .storage import storing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS_FOLDER = "events"


class TensorBoardEvents:
    """Writes a scalar for each number of a line, by round, into ``events/`` of a run's folder.

    Parameters
    ----------
    folder
        Of the run; nothing is made before the first line comes.
    goes_on_after
        The last round of a run that goes on; what is there of later ones is hidden.

    Raises
    ------
    ConfigError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, goes_on_after: int = -1) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "tensorboard = true needs TensorBoard: pip install 'hsplit-flower[tensorboard]', "
                f"or leave the key out ({error})"
            ) from error
        self._folder = folder / EVENTS_FOLDER
        self._first_step = goes_on_after + 1
        self._writer: SummaryWriter | None = None

    def add(self, line: FederatedLine) -> None:
        """Write a line, and see it onto the disk.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter

        with storing(self._folder):
            if self._writer is None:
                self._writer = SummaryWriter(str(self._folder), purge_step=self._first_step)
            for tag, value in scalars(line).items():
                self._writer.add_scalar(tag, value, line.server_round)
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalars(line: FederatedLine) -> dict[str, float]:
    """The numbers of a line by tag, ``perplexity/server`` or ``loss/clinic-a``; none that is not
    known.
    """
    if isinstance(line, ServerEvaluationLine):
        return {"perplexity/server": line.perplexity, "loss/server": line.loss}
    found: dict[str, float | None]
    if isinstance(line, PersonalisationLine):
        found = {}
        for name, gained in line.clients.items():
            found[f"perplexity before its own adapter/{name}"] = gained.perplexity_before
            found[f"perplexity with its own adapter/{name}"] = gained.perplexity_after
    elif isinstance(line, ClientEvaluationLine):
        found = {"perplexity/clients": line.perplexity}
        for name, one in line.clients.items():
            found |= _evaluated(name, one)
    else:
        found = {
            "round/seconds": line.seconds,
            "round/simulated seconds": line.simulated_seconds,
            "round/drift of importance": line.drift,
            "round/clients": sum(one.counts for one in line.clients.values()),
        }
        for name, own in line.clients.items():
            found |= _trained(name, own)
    return {tag: value for tag, value in found.items() if value is not None}


def _evaluated(name: str, one: EvaluatedClient) -> dict[str, float | None]:
    return {f"perplexity/{name}": one.perplexity}


def _trained(name: str, one: TrainedClient) -> dict[str, float | None]:
    if not one.counts:
        return {}
    return {
        f"loss/{name}": one.loss,
        f"seconds/{name}": one.seconds,
        f"memory, bytes/{name}": one.peak_bytes or None,
        f"to and from the worker, bytes/{name}": _both(one.worker_up_bytes, one.worker_down_bytes),
        f"to and from the server, bytes/{name}": _both(one.flower_up_bytes, one.flower_down_bytes),
        f"cut/{name}": one.cut,
        f"sum of ranks/{name}": one.sum_of_ranks,
    }


def _both(up_bytes: int | None, down_bytes: int | None) -> int | None:
    return None if up_bytes is None or down_bytes is None else up_bytes + down_bytes
