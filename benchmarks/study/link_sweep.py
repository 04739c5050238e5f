"""What the paper leaves out: more clients, slower and faster links, other wire types."""

from collections.abc import Iterable
from typing import Any, Final

from benchmarks.study.arms import ROWS
from benchmarks.study.budgets import (
    HIGHEST_RANK,
    num_parameters,
    numbers_per_rank,
    parts,
    split_memory,
    whole_memory,
)
from benchmarks.study.clock import round_cost
from benchmarks.study.fleet import GIGABYTE, MEMORY_GB, Link, costs_of
from hsplit_flower.costs import wire_bytes
from hsplit_flower.types import Labels

NUM_CLIENTS: Final = (5, 10, 20)
MBPS: Final = (10.0, 30.0, 100.0, 300.0, 1000.0)
ROUND_TRIPS_MS: Final = (5.0, 20.0, 50.0, 100.0, 200.0)
# SplitLoRA's interval between aggregations.
STEPS: Final = 100
RANK: Final = 4.0
METHODS: Final = ("hsplit-lora", "split-lora", "fed-lora", "full-tuning")
WIRE_TYPES: Final = {"float32": 4, "bfloat16 or float16": 2, "int8": 1}


def sweep(model: str) -> list[dict[str, Any]]:
    """Seconds of a round of 100 steps, every client with rank 4 and room for all it is asked."""
    costs = costs_of(model)
    links = [Link(mbps=mbps) for mbps in MBPS]
    links += [Link(round_trip_ms=ms) for ms in ROUND_TRIPS_MS if ms != Link().round_trip_ms]
    rows = []
    for name in METHODS:
        for clients in NUM_CLIENTS:
            for link in links:
                cost = round_cost(
                    costs, ROWS[name], [RANK] * clients, RANK, num_steps=STEPS, link=link
                )
                rows.append(
                    {
                        "method": name,
                        "clients": clients,
                        "mbps": link.mbps,
                        "round_trip_ms": link.round_trip_ms,
                        "seconds": round(cost.seconds, 2),
                    }
                )
    return rows


def activations(model: str) -> dict[str, dict[str, float]]:
    """Bytes of a step that cross the cut, by what they are on the wire, and of the adapter.

    ``seconds`` is what they take a client's link of 100 Mbit/s.
    """
    found = {}
    for name, num_bytes in WIRE_TYPES.items():
        wire = wire_bytes(costs_of(model, num_bytes), Labels.SERVER)
        found[name] = {
            "up_bytes": wire.up_bytes,
            "down_bytes": wire.down_bytes,
            "seconds": round(Link(round_trip_ms=0.0).seconds(wire.total_bytes), 3),
        }
    return found


def capacities(model: str) -> dict[str, dict[str, Any]]:
    """By method: a client's bytes in memory, its trained parameters, and who can take part."""
    costs = costs_of(model)
    found = {}
    for name, row in ROWS.items():
        cost = round_cost(costs, row, [RANK] * NUM_CLIENTS[0], RANK, num_steps=STEPS)
        rank = HIGHEST_RANK if row.has_adapters else 0
        memory = split_memory(costs, cut=1, rank=rank) if row.is_split else whole_memory(costs, row)
        who = {fleet: parts(costs, row, memory) for fleet, memory in MEMORY_GB.items()}
        trained = numbers_per_rank(costs) * 1.0 if row.has_adapters else num_parameters(costs)
        found[name] = {
            "memory_gb": round(memory / GIGABYTE, 3),
            "numbers_per_rank": trained,
            "round_bytes": cost.client_bytes,
            "round_seconds": round(cost.seconds, 2),
            "takes_part": {
                fleet: {
                    f"{client}: {MEMORY_GB[fleet][client]:g} GB": {
                        "rank": round(part.rank, 2),
                        "cut": part.cut,
                    }
                    for client, part in several.items()
                }
                for fleet, several in who.items()
            },
        }
    return found


def all_of_it(models: Iterable[str]) -> dict[str, Any]:
    """Everything above, by model."""
    return {
        model: {
            "sweep": sweep(model),
            "activations": activations(model),
            "capacities": capacities(model),
        }
        for model in models
    }
