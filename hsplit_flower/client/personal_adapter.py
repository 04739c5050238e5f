"""The adapter that a client keeps for itself, on its own disk; nothing of it is ever sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..adapters import LowRank, export_adapter, import_adapter
from ..errors import AdapterError, ConfigError, StorageError
from .goes_on_top import OnTopOf
from .half_cache import HalfKey

FOLDER_KEY, DATA_KEY = "personal-adapter", "data"
DEFAULT_FOLDER = Path("personal-adapters")
"""In the working directory of a client's process, where nothing else says where."""
CARD = """\
# An adapter of this client's own

It goes on top of the adapter of the run that it was trained after, and says nothing without it.
"""


@dataclass(frozen=True, kw_only=True)
class PersonalAdapter:
    """A PEFT checkpoint of what a client has trained on top of the global adapter.

    Attributes
    ----------
    folder
        In which it is.
    """

    folder: Path

    @classmethod
    def of_node(cls, node_config: Mapping[str, object], *, name: str) -> "PersonalAdapter":
        """Where a node keeps it: where its config says, or beside its data, or under its name.

        Parameters
        ----------
        node_config
            ``personal-adapter`` names a folder. Without it, a client that has ``data`` of its own
            keeps ``FILE-personal-adapter`` beside the file, such as
            ``rows.jsonl-personal-adapter``. ``~`` is the home of who runs the client.
        name
            What the client is called, for one that has neither.

        Raises
        ------
        ConfigError
            If ``personal-adapter`` is no text.
        """
        said = node_config.get(FOLDER_KEY, "")
        if not isinstance(said, str):
            raise ConfigError(f"{FOLDER_KEY} = {said!r}: the path of a folder is wanted")
        if said:
            return cls(folder=Path(said).expanduser())
        data = node_config.get(DATA_KEY, "")
        if isinstance(data, str) and data:
            path = Path(data).expanduser()
            # With its ending: files of one folder may differ in that alone.
            return cls(folder=path.with_name(f"{path.name}-{FOLDER_KEY}"))
        plain = "".join(one if one.isalnum() or one in "-_" else "-" for one in name)
        return cls(folder=DEFAULT_FOLDER / (plain or "client"))

    def write(
        self,
        updates: Mapping[str, LowRank],
        key: HalfKey,
        *,
        is_transposed: bool,
        on_top_of: OnTopOf,
    ) -> None:
        """Keep what was trained, in the place of what was kept before.

        Parameters
        ----------
        updates
            Of the weights below the cut, the global update not in them.
        key, is_transposed
            The half that they are of, and whether it stores its matrices as ``[in, out]``.
        on_top_of
            The global adapter, which is noted.

        Raises
        ------
        StorageError
            If the folder cannot be written.
        """
        try:
            export_adapter(
                updates,
                self.folder,
                base_model=key.model,
                revision=key.revision or "",
                is_transposed=is_transposed,
                card=CARD,
                notes=on_top_of.notes(),
            )
        except OSError as error:
            raise StorageError(
                f"the client's own adapter cannot be written to {self.folder} ({error}): name "
                f"another folder as {FOLDER_KEY} in the node config"
            ) from error

    def read(self) -> dict[str, LowRank]:
        """What is kept.

        Raises
        ------
        AdapterError
            If there is none, or it is more than plain LoRA.
        """
        return import_adapter(self.folder)

    def added_to(self, updates: Mapping[str, LowRank]) -> dict[str, LowRank]:
        """The global update with what is kept on top; a weight may have one of the two alone.

        Raises
        ------
        AdapterError
            If there is none, or what is there is of other shapes.
        """
        own = self.read()
        both = {name: updates[name] + own[name] for name in updates.keys() & own.keys()}
        return {**updates, **own, **both}

    def checked_and_added_to(self, updates: Mapping[str, LowRank]) -> dict[str, LowRank]:
        """The same in a run, which has just had what is kept trained on top of this global update.

        Raises
        ------
        AdapterError
            If something else has been written to the folder meanwhile; naming both adapters.
        """
        note = OnTopOf.read(self.folder)
        if note is not None and not note.is_of(updates):
            raise AdapterError(
                f"the adapter in {self.folder.absolute()} "
                f"{note.difference(updates, 'the one of this run')}: another client or another run "
                f"has written to that folder; give each client a folder of its own as {FOLDER_KEY} "
                "in its node config"
            )
        return self.added_to(updates)
