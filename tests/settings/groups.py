"""Every group of settings that the library has."""

from typing import Any

from hsplit_flower.settings import (
    GROUPS,
    Certificates,
    Link,
    Model,
    NodeCertificates,
    PlanSettings,
    Recipe,
    RunSettings,
    SessionSpec,
    Settings,
    Trust,
    WireFormat,
)
from hsplit_flower.settings.fields import Known
from hsplit_flower.wire.instructions import Instructions

ALL: list[type[Settings]] = [
    *GROUPS.values(),
    RunSettings,
    Recipe,
    WireFormat,
    PlanSettings,
    SessionSpec,
    Certificates,
    NodeCertificates,
    Trust,
    Instructions,
]
FIELDS: list[tuple[type[Settings], Known]] = [
    (group, field) for group in ALL for field in group.known()
]
SPEC = SessionSpec(client=0, cut=1)
TOLD = {"server_round": 1, "num_examples": 1, "model": Model(), "link": Link(), "session": SPEC}
REQUIRED: dict[type[Settings], dict[str, Any]] = {
    SessionSpec: {"client": 0, "cut": 1},
    Instructions: TOLD,
}


def required(group: type[Settings]) -> dict[str, Any]:
    """Values of the fields of a group that have no default."""
    return REQUIRED.get(group, {})


NAMES = [f"{group.__name__}.{field.name}" for group, field in FIELDS]
