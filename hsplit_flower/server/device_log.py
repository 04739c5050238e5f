"""What the log says of devices: what is different from the last round, and who is left out."""

from collections.abc import Mapping
from logging import WARNING

from flwr.common.logger import log

from ..devices.source import DevicesNow
from ..names import ClientNames
from ..sizes import size_text
from ..types import Shortfall
from .client_lines import client_lines
from .left_out import shortfall_text


def device_changes(then: DevicesNow, today: DevicesNow, names: ClientNames) -> list[str]:
    """What is different from the round before, in words."""
    before, were_away, now, are_away = then.profiles, then.away, today.profiles, today.away
    budgets = {
        names.of(node): f"has {size_text(profile.memory_bytes)}, it had "
        f"{size_text(before[node].memory_bytes)}"
        for node, profile in now.items()
        if node in before and profile.memory_bytes != before[node].memory_bytes
    }
    changes = {
        "is away": are_away - were_away,
        "is back": were_away & now.keys() - are_away,
        "has joined": now.keys() - before.keys() if before else set(),
        "is gone": before.keys() - now.keys(),
    }
    moves = [
        line
        for change, nodes in changes.items()
        for line in client_lines({names.of(node): change for node in sorted(nodes)})
    ]
    return [*client_lines(budgets), *moves]


def log_left_out(left_out: Mapping[int, Shortfall], names: ClientNames) -> None:
    """Warn of clients that no plan can hold, with what they lack."""
    reasons = {names.of(node): shortfall_text(shortfall) for node, shortfall in left_out.items()}
    for line in client_lines({name: f"is left out: {why}" for name, why in reasons.items()}):
        log(WARNING, "\t> %s", line)
