"""What all that a run writes of itself has in common: frozen values, versioned, told by key."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from ..errors import ConfigError

VERSION = 2
"""Of a line of metrics and of a plan; goes up when a key of before means something else."""


class Record(BaseModel):
    """Values under keys, ``num_steps`` as ``num-steps``; a key that is not known is passed over.

    A later release may add keys: whoever reads a run with an older one reads what it knows. Numbers
    that JSON lacks are texts there, ``"inf"``.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_name=True,
        validate_by_alias=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """By key, as JSON has it."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """The record that these values are.

        Raises
        ------
        ConfigError
            Naming the first key whose value is none, and ``where`` it stands.
        """
        try:
            return cls.model_validate(dict(values))
        except (ValidationError, TypeError, ValueError) as error:
            raise ConfigError(f"{where} holds no {cls.__name__}: {_first(error)}") from error


def check_version(values: Mapping[str, Any], where: str) -> None:
    """Refuse what another version of this package has written.

    Raises
    ------
    ConfigError
        Naming both versions.
    """
    version = values.get("version")
    if version != VERSION:
        raise ConfigError(
            f"{where} is of version {version!r}, {VERSION} is wanted: read it with the release of "
            "hsplit-flower that wrote it"
        )


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
