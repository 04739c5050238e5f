"""A fleet from a TOML file.

[[device]]              # one table for each device, or for several alike
name = "ward 3"         # optional
count = 2               # optional, 1
memory-gb = 8           # 1 GB is 10⁹ bytes
flops = 5e12            # operations per second
up-mbps = 50            # 10⁶ bits per second; optional, like the rest: no limit
down-mbps = 200
rtt-ms = 20
unavailable = 0.1       # probability of being away in a round

[worker]                # optional: the split worker beside them
memory-gb = 80
flops = 1e14
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..settings.device import profile_fields
from ..types import DeviceProfile
from .device import Device

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENDING = ".toml"
NEEDED = ("memory-gb", "flops")
OPTIONAL = ("up-mbps", "down-mbps", "rtt-ms")
OWN_KEYS = ("name", "count", "unavailable")
MOST_DEVICES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class FleetFile:
    """What a fleet file says: its devices, and what it says of the worker, if anything."""

    devices: tuple[Device, ...]
    worker_memory_bytes: float | None = None
    worker_flops_per_second: float | None = None


def read_fleet_file(path: Path) -> FleetFile:
    """The fleet that a TOML file describes.

    Raises
    ------
    ConfigError
        If the file cannot be read, or naming every key that is unknown, missing or wrong.
    """
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise ConfigError(
            f"fleet file {str(path)!r} cannot be read ({error.strerror}): a TOML file with a "
            "[[device]] table for each device is wanted"
        ) from error


# A fleet is asked for by every client of every round; a file that was written since is read again.
@lru_cache(maxsize=8)
def _read(path: Path, modified: int) -> FleetFile:
    try:
        content: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"fleet file {str(path)!r} is not TOML: {error}") from error
    problems: list[str] = []
    devices = tuple(_devices(content.get("device", []), problems))
    memory, speed = _worker(content.get("worker", {}), problems)
    problems += _unknown("the file", content, ("device", "worker"))
    if not devices and not problems:
        problems.append("it has no [[device]] table")
    if problems:
        raise ConfigError.listing(f"fleet file {str(path)!r}", problems)
    return FleetFile(devices=devices, worker_memory_bytes=memory, worker_flops_per_second=speed)


def _devices(tables: object, problems: list[str]) -> Iterator[Device]:
    if not isinstance(tables, list):
        problems.append("device is one table, a list of tables is wanted: write [[device]]")
        return
    for index, table in enumerate(tables):
        where = f"device {index}"
        if not isinstance(table, dict):
            problems.append(f"{where} is {table!r}, a table is wanted")
            continue
        device, found = _device(table)
        problems += [f"{where}: {problem}" for problem in found]
        count = table.get("count", 1)
        if isinstance(count, bool) or not isinstance(count, int):
            problems.append(f"{where}: count is {count!r}, a whole number is wanted")
        elif not 1 <= count <= MOST_DEVICES:
            problems.append(f"{where}: count is {count}, 1 to {MOST_DEVICES} is wanted")
        elif device is not None:
            yield from [device] * count


def _device(table: Mapping[str, Any]) -> tuple[Device | None, list[str]]:
    fields, problems = profile_fields(table)
    problems += _unknown("", table, (*NEEDED, *OPTIONAL, *OWN_KEYS))
    problems += [f"{key} is missing" for key in NEEDED if key not in table]
    name, unavailable = table.get("name", ""), table.get("unavailable", 0.0)
    if not isinstance(name, str):
        problems.append(f"name is {name!r}, a string is wanted")
    is_number = isinstance(unavailable, (int, float)) and not isinstance(unavailable, bool)
    if not is_number or not 0.0 <= unavailable < 1.0:
        problems.append(f"unavailable is {unavailable!r}, a probability below 1 is wanted")
    if problems:
        return None, problems
    profile = DeviceProfile(**fields)
    return Device(profile=profile, unavailable=float(unavailable), name=name), problems


def _worker(table: object, problems: list[str]) -> tuple[float | None, float | None]:
    if not isinstance(table, dict):
        problems.append(f"worker is {table!r}, a table is wanted: write [worker]")
        return None, None
    fields, found = profile_fields(table, NEEDED)
    problems += [f"worker: {problem}" for problem in [*found, *_unknown("", table, NEEDED)]]
    return fields.get("memory_bytes"), fields.get("flops_per_second")


def _unknown(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> list[str]:
    prefix = f"{where} has an " if where else ""
    return [
        f"{prefix}unknown key {key!r}, wanted some of {', '.join(known)}"
        for key in table
        if key not in known
    ]
