"""The catalogue of faults as a table of docs/reliability.md."""

from itertools import groupby
from typing import Final

from benchmarks.faults.catalogue import FAULTS, Channel, Fault

HEAD: Final = "| who | how | when | what is lost |\n|---|---|---|---|\n"


def fault_table() -> str:
    """A row for each party, way and loss, with the moments at which that is tried."""

    def key(fault: Fault) -> tuple[str, str, str]:
        return fault.party.value, fault.how.value, fault.loss.value

    rows = []
    for (party, how, loss), faults in groupby(sorted(FAULTS, key=key), key=key):
        places: dict[str, list[str]] = {}
        for fault in faults:
            places.setdefault(fault.place.value, []).append(fault.channel.value)
        told = "; ".join(
            place if channels == [Channel.PLAIN.value] else f"{place} ({', '.join(channels)})"
            for place, channels in places.items()
        )
        rows.append(f"| {party} | {how} | {told} | {loss} |\n")
    return HEAD + "".join(rows)
