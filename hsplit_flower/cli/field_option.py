"""An option of the command line that is made of a setting's field."""

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import click
import typer

from ..settings.fields import Known, kinds_of
from .field_text import choices_text, default_text, limits_text


@dataclass(frozen=True, kw_only=True)
class OtherDefault:
    """A default that a command has instead of a field's, and why.

    ``value`` is None where it is found out later; ``reason`` says what it is then.
    """

    value: Any
    reason: str

    @property
    def text(self) -> str:
        """For people."""
        if self.value is None:
            return self.reason
        return f"{default_text(self.value)}, as {self.reason}"


@dataclass(frozen=True, kw_only=True)
class FieldOption:
    """The option of one field; its sentence says what it does in this command."""

    field: Known
    names: tuple[str, ...]
    other: OtherDefault | None
    sentence: str
    is_required: bool
    is_argument: bool = False

    @property
    def parameter_name(self) -> str:
        """What Python calls it."""
        return self.names[0].removeprefix("--").replace("-", "_")

    @property
    def help(self) -> str:
        """The sentence, and the field's unit, limits and default."""
        told = [self.field.unit, limits_text(self.field)]
        if self.other is not None:
            told.append(f"default: {self.other.text}")
        elif not self.is_required:
            told.append(f"default: {default_text(self.field.default)}")
        details = "; ".join(each for each in told if each)
        return f"{self.sentence} [{details}]" if details else self.sentence

    def parameter(self) -> inspect.Parameter:
        """As typer reads it off a function."""
        choices = choices_text(self.field)
        if self.is_argument:
            option = typer.Argument(help=self.help, show_default=False)
        else:
            option = typer.Option(
                *self._declarations(),
                help=self.help,
                click_type=click.Choice(choices) if choices else None,
                show_default=False,
            )
        kind = self._kind()
        return inspect.Parameter(
            self.parameter_name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if self.is_required else None,
            annotation=Annotated[kind if self.is_required else kind | None, option],
        )

    def value(self, typed: Any) -> Any:
        """What the field is given; a list is typed with commas."""
        kinds = kinds_of(self.field.info.annotation)
        if isinstance(typed, str) and any(_is_tuple(kind) for kind in kinds):
            return tuple(item.strip() for item in typed.split(","))
        return typed

    def _declarations(self) -> list[str]:
        """What it is called is the library's to say, but that a switch can be turned off is not."""
        is_switch = self._kind() is bool and self.field.default is True
        return [f"{name}/--no-{name[2:]}" if is_switch else name for name in self.names]

    def _kind(self) -> Any:
        kinds = kinds_of(self.field.info.annotation)
        return next((kind for kind in (bool, int, float) if kind in kinds), str)


def _is_tuple(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is tuple
