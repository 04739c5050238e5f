"""Which global adapter a client's own was trained on top of, noted in its file and compared.

On another one it gives wrong texts, and nothing else would say so.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..adapters import LowRank, import_adapter
from ..adapters.peft_checkpoint import CONFIG_FILE, read_notes
from ..adapters.sketch import PER_WEIGHT, Sketch, relative_difference, sketch_of
from ..errors import AdapterError

NOTE_KEY = "on-top-of"
ROUNDING = 0.01
"""Share of an adapter's size that its file may be off: bfloat16's rounding is a fifth of it."""
RUNS_ADAPTER = "adapter"
"""What a run's folder calls the adapter of its last round, on which clients train their own."""


@dataclass(frozen=True, kw_only=True)
class OnTopOf:
    """A global adapter, known by what a client had of it.

    Attributes
    ----------
    sketch
        Of its updates of all weights below the client's cut.
    server_round
        After which it was the global one.
    """

    sketch: Sketch
    server_round: int

    @classmethod
    def of(
        cls, updates: Mapping[str, LowRank], weights: Iterable[str], *, server_round: int
    ) -> "OnTopOf":
        """What is noted of the updates that a client with these weights trains on top of."""
        return cls(sketch=_sketch(updates, weights), server_round=server_round)

    @classmethod
    def read(cls, folder: Path) -> "OnTopOf | None":
        """What the adapter in a folder notes; None if it notes nothing.

        Raises
        ------
        AdapterError
            If the note, or the file that has it, cannot be read.
        """
        note = read_notes(folder).get(NOTE_KEY)
        if note is None:
            return None
        try:
            values = json.loads(note)
            sketch = {str(name): _numbers(each) for name, each in values["sketch"].items()}
            return cls(sketch=sketch, server_round=int(values["round"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise AdapterError(
                f"what the adapter in {folder} notes as {NOTE_KEY!r} cannot be read ({error!r}): "
                "copy the folder once more from where it was written"
            ) from error

    def notes(self) -> dict[str, str]:
        """The note, for the header of the adapter's file."""
        return {NOTE_KEY: json.dumps({"round": self.server_round, "sketch": self.sketch})}

    def is_of(self, updates: Mapping[str, LowRank]) -> bool:
        """Whether it was trained on top of these updates, but for a file's rounding."""
        return self._share(updates) <= ROUNDING

    def difference(self, updates: Mapping[str, LowRank], where: str) -> str:
        """In words that follow the name of a client's own adapter: what it wants, what there is.

        ``where`` is how the adapter of these updates is called.
        """
        share = self._share(updates)
        far = f" by about {share:.0%} of its size" if share < math.inf else ""
        return (
            f"was trained on top of the global adapter after round {self.server_round} of its run, "
            f"and {where} differs from that{far}"
        )

    def _share(self, updates: Mapping[str, LowRank]) -> float:
        return relative_difference(self.sketch, _sketch(updates, self.sketch))


def what_is_unsure(own: Path, adapter: Path | None) -> str:
    """Refuse a client's own adapter on top of another one than it was trained on top of.

    Another adapter that a run's folder has beside the one that is wanted, such as one that was made
    of it smaller, may be near enough: that is left to who asks for it.

    Parameters
    ----------
    own, adapter
        Folders of the client's own adapter, and of the global one, if there is one.

    Returns
    -------
    str
        A sentence for who asks, if the two may not belong together; empty if they do.

    Raises
    ------
    AdapterError
        If they do not, or one of them cannot be read.
    """
    if adapter is not None and own.resolve() == adapter.resolve():
        raise AdapterError(
            f"the adapter in {own} is given as the global one and as a client's own: the folder is "
            "wanted in which the client has kept its own"
        )
    note = OnTopOf.read(own)
    if note is None:
        return (
            f"the adapter in {own} does not note which adapter it was trained on top of, as those "
            f"that were written before there were notes: whether that is {_where(adapter)} cannot "
            "be checked"
        )
    updates = {} if adapter is None else import_adapter(adapter)
    if note.is_of(updates):
        return ""
    difference = f"the adapter in {own} {note.difference(updates, _where(adapter))}"
    if adapter is not None and _is_beside(note, adapter):
        return f"{difference}: it is one of the same run; the more they differ, the worse it goes"
    raise AdapterError(
        f"{difference}: give the adapter of the run after which the client has trained its own, or "
        "the one that the client has kept after this run"
    )


def _is_beside(note: OnTopOf, adapter: Path) -> bool:
    """Whether a run's folder has the adapter that is wanted beside this one."""
    runs_own = adapter.resolve().parent / RUNS_ADAPTER
    return (runs_own / CONFIG_FILE).is_file() and note.is_of(import_adapter(runs_own))


def _where(adapter: Path | None) -> str:
    return "none, which is given," if adapter is None else f"the one in {adapter}"


def _sketch(updates: Mapping[str, LowRank], weights: Iterable[str]) -> Sketch:
    return {name: sketch_of(name, updates.get(name)) for name in sorted(weights)}


def _numbers(values: Iterable[float]) -> tuple[float, ...]:
    numbers = tuple(map(float, values))
    if len(numbers) != PER_WEIGHT:
        raise ValueError(f"{len(numbers)} numbers for a weight, {PER_WEIGHT} are wanted")
    return numbers
