"""What clients are called, in the place of the ids that Flower gives their nodes."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

UNNAMED = "unnamed"
NUMBER = re.compile(r"([0-9]+)")


def in_order(names: Iterable[str]) -> list[str]:
    """Names as people order them: ``vm/2`` is before ``vm/10``."""
    return sorted(names, key=lambda name: (_parts(name), name))


def _parts(name: str) -> list[str | int]:
    """The texts of a name and, in every second place, the numbers between them."""
    return [int(part) if place % 2 else part for place, part in enumerate(NUMBER.split(name))]


def listed(names: Iterable[str], most: int) -> str:
    """Names in their order; of more than so many how many more there are."""
    shown = in_order(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


@dataclass(frozen=True, kw_only=True)
class ClientNames:
    """A name of its own for each client that has been met; its number for any other.

    Attributes
    ----------
    by_client
        Names by client. They are what the clients say, as far as two are not called alike, and
        stay as they are as long as the run lasts.
    """

    by_client: Mapping[int, str] = field(default_factory=dict)

    def of(self, client: int) -> str:
        """A client's name."""
        return self.by_client.get(client, str(client))

    def listed(self, clients: Collection[int], most: int = 5) -> str:
        """The names of several, in their order; of more than so many how many more there are."""
        return listed(map(self.of, clients), most)

    def with_client(self, client: int, name: str) -> "ClientNames":
        """The same with a client that calls itself so; who is called so already keeps the name.

        Of two clients of one name the later one is the name's second, ``clinic-a (2)``.
        """
        others = {own for known, own in self.by_client.items() if known != client}
        own, count = name or UNNAMED, 1
        while own in others:
            count += 1
            own = f"{name or UNNAMED} ({count})"
        return replace(self, by_client={**self.by_client, client: own})


NUMBERED = ClientNames()
"""Where nobody has said how clients are called."""
