"""What a group of settings is: frozen, and checked when it is made.

What is wrong is said in the voice of whoever set it: a Python argument, a key of a run-config, an
option of the command line.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from ..errors import ConfigError
from .fields import Known

MOST_SHOWN = 120
# Of pydantic, where a value is of another type than its field.
TYPE_ERRORS = ("int_type", "int_from_float", "float_type", "bool_type", "string_type")

Voice = Callable[[str, object, str], str]
"""What is wrong with a field: from its name, what was got, and what is wanted."""


def in_python(name: str, value: object, wanted: str) -> str:
    """``rank_unit must be 1 or more, got 0``."""
    return f"{name} must be {wanted}, got {shown(value)}"


def shown(value: object) -> str:
    """A value as it was given, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


class _Secret:
    def __repr__(self) -> str:
        return "what is not shown"


SECRET = _Secret()


class Settings(BaseModel):
    """A group of settings.

    Numbers are not made of texts, nor texts of numbers; a choice may be given as its text.

    Raises
    ------
    ConfigError
        From its constructor, naming everything that is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = all_problems(type(self), values, error, in_python)
            if len(problems) > 1:
                raise ConfigError.listing(type(self).__name__, problems) from None
            raise ConfigError(f"{type(self).__name__}: {problems[0]}") from None

    @classmethod
    def read(cls, values: Mapping[str, Any], voice: Voice) -> "tuple[Self | None, list[str]]":
        """The group, or what is wrong with these values in somebody's voice."""
        made = cls.__new__(cls)
        try:
            cls.__pydantic_validator__.validate_python(dict(values), self_instance=made)
        except ValidationError as error:
            return None, all_problems(cls, values, error, voice)
        return made, []

    @classmethod
    def known(cls) -> Iterator[Known]:
        """All fields, in their order."""
        return (Known(name, info) for name, info in cls.model_fields.items())

    @classmethod
    def default_of(cls, name: str) -> Any:
        """What a field is where nobody sets it."""
        return cls.model_fields[name].default

    def replace(self, **values: Any) -> Self:
        """The same with other values, which are checked as any."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**given, **values})

    def shown(self) -> dict[str, Any]:
        """Plain values by key, secrets left out."""
        plain = self.model_dump(mode="json")
        return {
            field.key: value.shown() if isinstance(value, Settings) else plain[field.name]
            for field in type(self).known()
            if not field.is_secret
            for value in [getattr(self, field.name)]
        }

    def given(self) -> dict[str, Any]:
        """The values as they are, by field."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def all_problems(
    group: type[Settings], values: Mapping[str, Any], error: ValidationError, voice: Voice
) -> list[str]:
    """What pydantic found, and what of the fields that are right does not go together."""
    problems = problems_of(group, error, voice)
    wrong = {str(each["loc"][0]) for each in error.errors(include_url=False) if each["loc"]}
    rest = {name: value for name, value in values.items() if name not in wrong}
    if wrong and rest:
        try:
            group.__pydantic_validator__.validate_python(rest, self_instance=group.__new__(group))
        except ValidationError as other:
            more = problems_of(group, other, voice, but=wrong)
            problems += [problem for problem in more if problem not in problems]
    return problems


def problems_of(
    group: type[Settings],
    error: ValidationError,
    voice: Voice,
    *,
    but: Collection[str] = (),
) -> list[str]:
    """What pydantic found, each once, in our words, but for what is known to be wrong."""
    known = {field.name: field for field in group.known()}
    found: dict[str, str] = {}
    for each in error.errors(include_url=False):
        name = str(each["loc"][0]) if each["loc"] else ""
        if name in but:
            continue
        if each["type"] == "value_error":
            found[name or str(each["ctx"]["error"])] = str(each["ctx"]["error"])
        elif each["type"] == "extra_forbidden":
            found[name] = f"there is no {shown(name)}: the fields are {', '.join(known)}"
        elif each["type"] == "missing":
            found[name] = f"{name} is missing: {known[name].wanted} is wanted"
        else:
            field = known[name]
            wanted = field.wanted
            if each["type"] in TYPE_ERRORS and wanted[0].isdigit():
                wanted = f"{field.kind} of {wanted}"
            found[name] = voice(name, SECRET if field.is_secret else each["input"], wanted)
    return list(found.values())
