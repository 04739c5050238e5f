"""Tiny models and devices to make plans of."""

import functools
import math

from hsplit_flower.costs import ModelCosts, Workload, trace_costs
from hsplit_flower.types import DeviceProfile
from tests.families import FAMILIES

ROOM = 1e15


@functools.cache
def costs_of(name: str, dtype_bytes: int = 4) -> ModelCosts:
    workload = Workload(batch_size=3, sequence_length=8, dtype_bytes=dtype_bytes, attention="eager")
    return trace_costs(FAMILIES[name].config(), workload)


def device(memory_bytes: float, flops: float = 1e9, up: float = math.inf) -> DeviceProfile:
    return DeviceProfile(memory_bytes=memory_bytes, flops_per_second=flops, up_bytes_per_second=up)
