"""A sum of numbers of which some may not be known."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KnownSum:
    """What of the numbers is known together, and whether that is all: else it is that or more."""

    value: float = 0.0
    is_all: bool = True

    @classmethod
    def of(cls, numbers: Iterable[float | None]) -> "KnownSum":
        """The sum of those that are there."""
        listed = list(numbers)
        return cls(value=sum(each or 0.0 for each in listed), is_all=None not in listed)

    def __add__(self, other: "KnownSum") -> "KnownSum":
        return KnownSum(value=self.value + other.value, is_all=self.is_all and other.is_all)

    @property
    def is_something(self) -> bool:
        """Whether it can be more than nothing."""
        return self.value > 0 or not self.is_all

    def text(self, in_words: Callable[[float], str]) -> str:
        """The sum in words, or what is known of it."""
        if self.is_all:
            return in_words(self.value)
        return f"at least {in_words(self.value)}" if self.value else "not known"
