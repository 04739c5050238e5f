"""The run-config of an app as values."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from typing_extensions import Self

from ..settings import GROUPS, RunSettings, Settings, read
from .app_settings import AppSettings


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings of an app, and those of every run.

    An app says with ``app`` which settings it adds. Another group of its own is a field whose name
    its keys begin with.
    """

    app: AppSettings
    run: RunSettings

    @classmethod
    def groups(cls) -> dict[str, type[Settings]]:
        """Every group by the name that its keys begin with."""
        types = get_type_hints(cls)
        own = {field.name: types[field.name] for field in fields(cls) if field.name != "run"}
        return {"": own.pop("app"), **own, **GROUPS}

    @classmethod
    def from_run_config(cls, values: Mapping[str, Any]) -> Self:
        """Read Flower's run config.

        Raises
        ------
        ConfigError
            Naming every key that is unknown, mistyped or out of range.
        """
        made: dict[str, Any] = read(cls.groups(), values)
        own = {name: made.pop(name) for name in set(made) - set(GROUPS) if name}
        return cls(app=made.pop(""), run=RunSettings(**made), **own)

    def steps_of(self, num_examples: int) -> int:
        """The optimizer steps that a client with so many examples takes in a round."""
        if not self.app.local_epochs:
            return self.app.local_steps
        return self.run.training.steps_of(num_examples, epochs=self.app.local_epochs)

    def shown(self, run: RunSettings) -> dict[str, Any]:
        """All settings as a run's folder has them; `run` are those that its method completed."""
        others: list[str] = [
            field.name for field in fields(self) if field.name not in ("app", "run")
        ]
        groups = {name: getattr(self, name).shown() for name in others}
        return {**self.app.shown(), **groups, **run.shown()}
