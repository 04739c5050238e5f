"""What a setting is: type, default, limits, unit and a sentence, said once.

What a value must be is put into words from the field.
"""

from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo


def setting(
    default: Any = ...,
    description: str = "",
    *,
    unit: str = "",
    wanted: str = "",
    secret: bool = False,
    measures: Mapping[str, float] | None = None,
    **limits: Any,
) -> Any:
    """A field of a group.

    Parameters
    ----------
    default
        Left out where a value must be given.
    description
        One sentence, for documentation and help.
    unit
        Of a number, in words.
    wanted
        What a value must be, where type and limits do not say it well.
    secret
        Whether the value is never shown or written down, and so is no key of a run-config.
    measures
        What of a device a number is, and what it is multiplied by to be that.
    limits
        Pydantic's: ``gt``, ``ge``, ``lt``, ``le``, ``pattern``.
    """
    return Field(
        default=default,
        description=description,
        repr=not secret,
        json_schema_extra={
            "unit": unit,
            "wanted": wanted,
            "secret": secret,
            "measures": dict(measures or {}),
        },
        **limits,
    )


class Known(NamedTuple):
    """A field as others need it: for a key, an option, a row of a table."""

    name: str
    info: FieldInfo

    @property
    def key(self) -> str:
        """With dashes, as it is typed."""
        return self.name.replace("_", "-")

    @property
    def description(self) -> str:
        return self.info.description or ""

    @property
    def unit(self) -> str:
        return str(self._extra["unit"])

    @property
    def is_secret(self) -> bool:
        return bool(self._extra["secret"])

    @property
    def measures(self) -> Mapping[str, float]:
        """What of a device it is, by the factor to get there; nothing for all others."""
        return dict(self._extra["measures"])

    @property
    def limits(self) -> dict[str, float]:
        """Of a number, by pydantic's names."""
        return {
            name: value
            for part in self.info.metadata
            for name in ("gt", "ge", "lt", "le")
            if (value := getattr(part, name, None)) is not None
        }

    @property
    def is_required(self) -> bool:
        return self.info.is_required()

    @property
    def default(self) -> Any:
        return self.info.default

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that it may have, if these are a few."""
        found: list[Any] = []
        for kind in kinds_of(self.info.annotation):
            if get_origin(kind) is Literal:
                found += get_args(kind)
            elif isinstance(kind, type) and issubclass(kind, Enum):
                found += [member.value for member in kind]
        return tuple(found)

    @property
    def kind(self) -> str:
        """What type of value it wants, in words."""
        kinds = kinds_of(self.info.annotation)
        if bool in kinds:
            return "true or false"
        if int in kinds and float not in kinds:
            return "a whole number"
        return "text" if str in kinds else "a number"

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        return str(self._extra["wanted"]) or _wanted(self)

    @property
    def _extra(self) -> Mapping[str, Any]:
        extra = self.info.json_schema_extra
        if not isinstance(extra, dict):
            raise TypeError(f"{self.name} is not made by `setting`")
        return extra


def kinds_of(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation admits, but for None."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    else:
        kinds = [annotation]
    return tuple(get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds)


def _wanted(field: Known) -> str:
    """In words, from type and limits."""
    if field.choices:
        return f"one of {', '.join(map(repr, field.choices))}"
    kinds = kinds_of(field.info.annotation)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return f"a group of settings, {kind.__name__}(...)"
    if bool in kinds or str in kinds:
        return field.kind
    return _wanted_number(field.limits, whole=int in kinds and float not in kinds)


def _wanted_number(limits: Mapping[str, float], *, whole: bool) -> str:
    match limits:
        case {"gt": 0, **rest} if not rest:
            return "a positive whole number" if whole else "a positive number"
        case {"ge": least, **rest} if not rest:
            return f"{least:g} or more"
        case {"ge": least, "le": most}:
            return f"{least:g} to {most:g}"
        case {"ge": least, "lt": end}:
            return f"a number from {least:g} to below {end:g}"
        case {"gt": 0, "lt": end}:
            return f"a number between 0 and {end:g}"
        case {"gt": 0, "le": most}:
            return f"a positive number of at most {most:g}"
    return "a whole number" if whole else "a number"
