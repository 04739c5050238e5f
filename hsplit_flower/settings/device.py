"""What people say of a device: in a client's node config, and in fleet files.

A measure outside the limits of its field is taken for a mistake in the unit: no device has it. Zero
and infinity, where they are allowed, are no mistakes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .fields import Known, setting
from .group import Settings

GIGABYTE = 1e9
BYTES_PER_MEGABIT = 1e6 / 8


class Device(Settings):
    """A client's device; what its node config does not say is measured on its machine.

    Its measures are checked one by one, by `DeviceKey`, which knows zero and infinity.
    """

    memory_gb: float | None = setting(
        None,
        "Memory that it may give.",
        unit="GB of 10^9 bytes",
        measures={"memory_bytes": GIGABYTE},
        ge=1e-5,
        le=1e5,
    )
    flops: float | None = setting(
        None,
        "What it computes.",
        unit="operations per second",
        measures={"flops_per_second": 1.0},
        ge=1e5,
        le=1e18,
    )
    up_mbps: float | None = setting(
        None,
        "What its link sends; inf for no limit.",
        unit="10^6 bits per second",
        measures={"up_bytes_per_second": BYTES_PER_MEGABIT},
        wanted="0.001 to 1e+07, or inf",
        ge=1e-3,
        le=1e7,
    )
    down_mbps: float | None = setting(
        None,
        "What its link receives; inf for no limit.",
        unit="10^6 bits per second",
        measures={"down_bytes_per_second": BYTES_PER_MEGABIT},
        wanted="0.001 to 1e+07, or inf",
        ge=1e-3,
        le=1e7,
    )
    rtt_ms: float | None = setting(
        None,
        "What a message and its answer take on the way; 0 for nothing.",
        unit="milliseconds",
        measures={"round_trip_seconds": 1e-3},
        wanted="0, or 1e-06 to 600000",
        ge=1e-6,
        le=6e5,
    )
    name: str = setting(
        "",
        "What the client is called in log, progress and reports; empty is its host, and its "
        "partition where it has one.",
    )
    model: str = setting("", "Where the client keeps the base, if elsewhere than the run says.")


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


def _device_key(known: Known) -> DeviceKey:
    ((field, unit),) = known.measures.items()
    limits = known.limits
    return DeviceKey(
        field=field,
        unit=unit,
        least=limits["ge"],
        most=limits["le"],
        may_be_zero=field == "round_trip_seconds",
        may_be_infinite=unit == BYTES_PER_MEGABIT,
    )


DEVICE_KEYS: Mapping[str, DeviceKey] = {
    known.key: _device_key(known) for known in Device.known() if known.measures
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
