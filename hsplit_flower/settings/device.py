"""The names and units in which people say what a device has: in node configs and in fleet files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GIGABYTE = 1e9
BYTES_PER_MEGABIT = 1e6 / 8


@dataclass(frozen=True, kw_only=True)
class DeviceKey:
    """One key: the field of a profile that it sets, its unit, and which numbers make sense.

    What lies outside ``[least, most]`` is taken for a mistake in the unit: no device has it.
    """

    field: str
    unit: float
    least: float
    most: float
    may_be_zero: bool = False
    may_be_infinite: bool = False

    def problem(self, name: str, value: object) -> str | None:
        """What is wrong with a value under this key; None if nothing is."""
        wanted = f"a {'number of zero or more' if self.may_be_zero else 'positive number'}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{name} is {value!r}, {wanted} is wanted (without quotes)"
        is_allowed = value >= 0 if self.may_be_zero else value > 0
        if not is_allowed or (math.isinf(value) and not self.may_be_infinite):
            return f"{name} is {value}, {wanted} is wanted"
        is_special = value == 0 or math.isinf(value)
        if not is_special and not self.least <= value <= self.most:
            return (
                f"{name} is {value:g}, no device has that: {self.least:g} to {self.most:g} is "
                "wanted; is it another unit?"
            )
        return None


def _rate(field: str) -> DeviceKey:
    return DeviceKey(
        field=field, unit=BYTES_PER_MEGABIT, least=1e-3, most=1e7, may_be_infinite=True
    )


DEVICE_KEYS: Mapping[str, DeviceKey] = {
    "memory-gb": DeviceKey(field="memory_bytes", unit=GIGABYTE, least=1e-5, most=1e5),
    "flops": DeviceKey(field="flops_per_second", unit=1.0, least=1e5, most=1e18),
    "up-mbps": _rate("up_bytes_per_second"),
    "down-mbps": _rate("down_bytes_per_second"),
    "rtt-ms": DeviceKey(
        field="round_trip_seconds", unit=1e-3, least=1e-6, most=6e5, may_be_zero=True
    ),
}


def profile_fields(
    settings: Mapping[str, object], keys: Sequence[str] = tuple(DEVICE_KEYS)
) -> tuple[dict[str, float], list[str]]:
    """Fields of a profile from the keys that are set, and what is wrong with them."""
    fields: dict[str, float] = {}
    problems = []
    for name in keys:
        if name not in settings:
            continue
        key, value = DEVICE_KEYS[name], settings[name]
        problem = key.problem(name, value)
        if problem is not None:
            problems.append(problem)
        else:
            assert isinstance(value, (int, float))
            fields[key.field] = float(value) * key.unit
    return fields, problems
