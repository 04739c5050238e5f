"""Which global adapter a client's own was trained on top of, noted in its file and compared.

On another one it gives wrong texts, and nothing else would say so.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..adapters import LowRank, import_adapter
from ..adapters.peft_checkpoint import CONFIG_FILE, read_notes
from ..errors import AdapterError
from ..wire.fingerprint import fingerprint_of_products

NOTE_KEY = "on-top-of"
RUNS_ADAPTER = "adapter"
"""What a run's folder calls the adapter of its last round, on which clients train their own."""


@dataclass(frozen=True, kw_only=True)
class OnTopOf:
    """A global adapter, known by what a client had of it.

    Attributes
    ----------
    fingerprint
        Of its updates of `weights`; empty if it had none.
    weights
        All those below the client's cut.
    server_round
        After which it was the global one.
    """

    fingerprint: str
    weights: tuple[str, ...]
    server_round: int

    @classmethod
    def of(
        cls, updates: Mapping[str, LowRank], weights: Iterable[str], *, server_round: int
    ) -> "OnTopOf":
        """What is noted of the updates that a client trains on top of."""
        names = tuple(sorted(weights))
        return cls(
            fingerprint=_fingerprint(updates, names), weights=names, server_round=server_round
        )

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
            return cls(
                fingerprint=str(values["fingerprint"]),
                weights=tuple(map(str, values["weights"])),
                server_round=int(values["round"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise AdapterError(
                f"what the adapter in {folder} notes as {NOTE_KEY!r} cannot be read ({error!r}): "
                "copy the folder once more from where it was written"
            ) from error

    def notes(self) -> dict[str, str]:
        """The note, for the header of the adapter's file."""
        values = {
            "fingerprint": self.fingerprint,
            "weights": self.weights,
            "round": self.server_round,
        }
        return {NOTE_KEY: json.dumps(values)}

    def is_of(self, updates: Mapping[str, LowRank]) -> bool:
        """Whether these are the updates that it was trained on top of."""
        return self.fingerprint == _fingerprint(updates, self.weights)

    def difference(self, updates: Mapping[str, LowRank], where: str) -> str:
        """In words that follow the name of a client's own adapter: what it wants, what there is.

        ``where`` is how the adapter of these updates is called.
        """
        got = _fingerprint(updates, self.weights)
        return (
            f"was trained on top of {_named(self.fingerprint)}, the global one after round "
            f"{self.server_round} of its run, and {where} is {_named(got)}"
        )


def what_is_unsure(own: Path, adapter: Path | None) -> str:
    """Refuse a client's own adapter on top of another one than it was trained on top of.

    Another adapter that a run's folder has beside the one that is wanted, such as one that was made
    of it smaller, computes nearly the same: that is left to who asks for it.

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
        return f"{difference}: that is another one of the same run, so what is computed is near"
    raise AdapterError(
        f"{difference}: give the adapter of the run after which the client has trained its own, or "
        "the one that the client has kept after this run"
    )


def _is_beside(note: OnTopOf, adapter: Path) -> bool:
    """Whether a run's folder has the adapter that is wanted beside this one."""
    runs_own = adapter.resolve().parent / RUNS_ADAPTER
    return (runs_own / CONFIG_FILE).is_file() and note.is_of(import_adapter(runs_own))


def _where(adapter: Path | None) -> str:
    return "what is given" if adapter is None else f"the one in {adapter}"


def _fingerprint(updates: Mapping[str, LowRank], names: Iterable[str]) -> str:
    return fingerprint_of_products({name: updates[name] for name in names if name in updates})


def _named(fingerprint: str) -> str:
    return f"the adapter {fingerprint}" if fingerprint else "no adapter"
