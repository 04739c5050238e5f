"""Options of a command, made from settings' fields; and the settings, made from what was typed.

An option that is not given leaves its setting alone, so that a default is said by its field only.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, final

from ..errors import ConfigError
from ..settings import GROUPS, RunSettings, Settings
from .field_option import FieldOption, OtherDefault

Group = TypeVar("Group", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Fields of a group that a command has options for.

    Attributes
    ----------
    group
        Whose fields.
    fields
        Which of them, in the order of the help; none named offers all but secrets.
    names
        Of options that are not, or not only, called as their fields are; errors say the first.
    defaults
        By field, where the command's is not the field's.
    sentences
        By field, where the field's own is of a run, and the command does something else with it.
    required
        Fields that must be given.
    arguments
        Fields that are typed without a name.
    """

    group: type[Settings]
    fields: Sequence[str] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, OtherDefault] = field(default_factory=dict)
    sentences: Mapping[str, str] = field(default_factory=dict)
    required: Sequence[str] = ()
    arguments: Sequence[str] = ()

    def options(self) -> Iterator[FieldOption]:
        """An option for each field."""
        known = {each.name: each for each in self.group.known()}
        for name in self.fields or [each.name for each in known.values() if not each.is_secret]:
            yield FieldOption(
                field=known[name],
                names=self.names.get(name, (f"--{known[name].key}",)),
                other=self.defaults.get(name),
                sentence=self.sentences.get(name, known[name].description),
                is_required=name in self.required,
                is_argument=name in self.arguments,
            )


@final
class Chosen:
    """The groups that a command line makes, each by its type."""

    def __init__(self, groups: Mapping[type[Settings], Settings]) -> None:
        self._groups = groups

    def __getitem__(self, group: type[Group]) -> Group:
        return cast(Group, self._groups[group])

    def run_settings(self) -> RunSettings:
        """The settings of a run of which nothing else is said."""
        given: dict[str, Any] = {
            name: self._groups[group] for name, group in GROUPS.items() if group in self._groups
        }
        return RunSettings(**given)


@final
class Options:
    """All options of a command.

    Parameters
    ----------
    offers
        By group; no two options may have one name.
    """

    def __init__(self, *offers: Offer) -> None:
        self.offers = offers

    def command(
        self, run: Callable[..., None], *arguments: inspect.Parameter
    ) -> Callable[..., None]:
        """A function that typer reads these options off, and which runs with what was typed.

        Arguments of its own are handed on by their names.
        """

        def typed_command(**typed: Any) -> None:
            own = {argument.name: typed.pop(argument.name) for argument in arguments}
            run(self.read(typed), **own)

        parameters = [*arguments]
        parameters += [option.parameter() for offer in self.offers for option in offer.options()]
        typed_command.__doc__ = run.__doc__
        typed_command.__annotations__ = {each.name: each.annotation for each in parameters}
        typed_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return typed_command

    def read(self, typed: Mapping[str, Any]) -> Chosen:
        """The groups, of options by their Python names; None is not given.

        Raises
        ------
        ConfigError
            Naming everything that is wrong with all of them.
        """
        problems: list[str] = []
        groups: dict[type[Settings], Settings] = {}
        for offer in self.offers:
            values = {
                name: other.value
                for name, other in offer.defaults.items()
                if other.value is not None
            }
            for option in offer.options():
                if (value := typed.get(option.parameter_name)) is not None:
                    values[option.field.name] = option.value(value)
            group, wrong = offer.group.read(values, self._voice_of(offer))
            problems += map(self.spoken, wrong)
            if group is not None:
                groups[offer.group] = group
        if len(problems) == 1:
            raise ConfigError(problems[0])
        if problems:
            raise ConfigError.listing("the command line", problems)
        return Chosen(groups)

    def spoken(self, text: str) -> str:
        """What the library says of settings, with their options' names in it."""
        prefixes = {group: name for name, group in GROUPS.items()}
        for offer in self.offers:
            for option in offer.options():
                known, name = option.field, option.names[0]
                if offer.group in prefixes:
                    key = re.escape(f"{prefixes[offer.group]}.{known.key}")
                    text = re.sub(rf"{key}(?![\w-])", name, text)
                if "_" in known.name:
                    text = re.sub(rf"(?<!\w){known.name}(?!\w)", name, text)
                text = re.sub(rf"(?<![\w.-]){known.key}(?= = | must )", name, text)
                # A switch is typed without a value.
                text = re.sub(rf"(?<![\w-]){name} = true", name, text)
                text = re.sub(rf"(?<![\w-]){name} in the run-config", name, text)
        return text

    def _voice_of(self, offer: Offer) -> Callable[[str, object, str], str]:
        names = {option.field.name: option.names[0] for option in offer.options()}
        return lambda name, value, wanted: f"{names[name]} is {value}: {wanted} is wanted"
