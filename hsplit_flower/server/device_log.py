"""What the log says of devices: what is different from the last round, and who is left out."""

from collections.abc import Mapping
from logging import WARNING

from flwr.common.logger import log

from ..devices.source import DevicesNow
from ..planning import budget_text
from ..sizes import size_text
from ..types import Shortfall


def device_changes(then: DevicesNow, today: DevicesNow) -> list[str]:
    """What is different from the round before, in words."""
    before, were_away, now, are_away = then.profiles, then.away, today.profiles, today.away
    lines = [
        f"client {node} has {size_text(profile.memory_bytes)}, it had "
        f"{size_text(before[node].memory_bytes)}"
        for node, profile in now.items()
        if node in before and profile.memory_bytes != before[node].memory_bytes
    ]
    lines += [f"client {node} is away" for node in sorted(are_away - were_away)]
    lines += [f"client {node} is back" for node in sorted(were_away & now.keys() - are_away)]
    if before:
        lines += [f"client {node} has joined" for node in sorted(now.keys() - before.keys())]
        lines += [f"client {node} is gone" for node in sorted(before.keys() - now.keys())]
    return lines


def log_left_out(left_out: Mapping[int, Shortfall]) -> None:
    """Warn of each client that no plan can hold, with what it lacks."""
    for node, shortfall in left_out.items():
        log(
            WARNING,
            "\t> client %s is left out: it has %s, its smallest part needs %s, it lacks %s",
            node,
            budget_text(shortfall),
            size_text(shortfall.needed_bytes),
            size_text(shortfall.lacking_bytes),
        )
