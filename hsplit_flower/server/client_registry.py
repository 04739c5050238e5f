"""Who is there and what they have: device profiles of the nodes that have been asked."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from logging import INFO, WARNING
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from ..settings.device import DEVICE_KEYS
from ..types import ClientInfo, DeviceProfile
from ..wire.instructions import PROFILE_KEY, QUERY_KEY

QUERY_TIMEOUT_SECONDS = 120.0
# More than anybody has, and so little that sums over clients stay within 64 bits.
LARGEST_COUNT = 2**40
# A fleet is made with a device for each partition.
MOST_PARTITIONS = 2**16
# Free memory and speed are measured on machines that do other things too; links are told.
NOISE = {
    "memory_bytes": 0.1,
    "flops_per_second": 0.5,
    "up_bytes_per_second": 0.01,
    "down_bytes_per_second": 0.01,
    "round_trip_seconds": 0.01,
}


class ClientRegistry:
    """Members by node id.

    A node is asked once; after that it says with each reply what it has. Who does not reply, for it
    failed or had nothing to do, can be asked anew.

    Parameters
    ----------
    dtype
        What the model computes in, for which nodes measure their speed.
    """

    def __init__(self, dtype: str = "float32") -> None:
        self._dtype = dtype
        self._members: dict[int, ClientInfo] = {}

    def members(
        self, grid: Grid, node_ids: Iterable[int], *, anew: Collection[int] = ()
    ) -> dict[int, ClientInfo]:
        """What the nodes have; those not met yet are asked, those that do not say are left out.

        Parameters
        ----------
        grid, node_ids
            Whom to ask through what.
        anew
            Nodes that are asked in any case, among them or not. Who does not answer is a stranger
            from then on.
        """
        wanted = list(node_ids)
        strangers = [node for node in wanted if node not in self._members and node not in anew]
        if asked := [*strangers, *anew]:
            self._ask(grid, asked)
        return {node: self._members[node] for node in wanted if node in self._members}

    def met(self, connected: Iterable[int]) -> dict[int, ClientInfo]:
        """All that have been asked so far and are connected still."""
        return {node: self._members[node] for node in connected if node in self._members}

    def update(self, node: int, profile: DeviceProfile) -> None:
        """Take what a member's device has by now, and say what has changed.

        A measurement moves a little from one round to the next; that is no change.
        """
        member = self._members[node]
        if changes := _changes(member.profile, profile):
            log(INFO, "\t> client %s has changed: %s", node, "; ".join(changes))
            self._members[node] = replace(member, profile=profile)

    def _meet(self, node: int, now: ClientInfo, before: ClientInfo | None) -> None:
        """Take what a node answers.

        More memory is no noise where it was asked anew: it may be what the node was left out for.
        """
        self._members[node] = now
        if before is not None and now.profile.memory_bytes <= before.profile.memory_bytes:
            self._members[node] = replace(now, profile=before.profile)
            self.update(node, now.profile)

    def _ask(self, grid: Grid, node_ids: list[int]) -> None:
        log(INFO, "Asking %s nodes what their devices have", len(node_ids))
        known = {node: self._members.pop(node) for node in node_ids if node in self._members}
        query = RecordDict({QUERY_KEY: ConfigRecord({"dtype": self._dtype})})
        messages = [
            Message(content=query, message_type=MessageType.QUERY, dst_node_id=node)
            for node in node_ids
        ]
        for reply in grid.send_and_receive(messages, timeout=QUERY_TIMEOUT_SECONDS):
            node = reply.metadata.src_node_id
            if reply.has_error():
                log(WARNING, "\t> client %s is left out: %s", node, reply.error.reason)
                continue
            try:
                member = _member(reply.content.config_records[PROFILE_KEY])
                self._meet(node, member, known.get(node))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                log(
                    WARNING,
                    "\t> client %s is left out, its device description cannot be read: %r",
                    node,
                    error,
                )
        for node in set(node_ids) - set(self._members):
            log(WARNING, "\t> client %s is left out: no device description", node)


def read_profile(values: Mapping[str, Any]) -> DeviceProfile:
    """What a client's description says of its device.

    Raises
    ------
    ValueError
        If no device has that: one client's numbers are in what everybody is planned from.
    """
    profile = DeviceProfile(
        **{
            field.name: float(values[field.name.replace("_", "-")])
            for field in fields(DeviceProfile)
        }
    )
    for name, key in DEVICE_KEYS.items():
        value = getattr(profile, key.field) / key.unit
        # Next to nothing may be free for the moment: who has too little is left out by the plan.
        if name == "memory-gb":
            value = max(value, key.least)
        if problem := key.problem(name, value):
            raise ValueError(problem)
    return profile


def read_count(value: Any, name: str, *, least: int = 0, most: int = LARGEST_COUNT) -> int:
    """A whole number that a client tells.

    Raises
    ------
    ValueError
        If it is out of range.
    """
    count = int(value)
    if not least <= count <= most:
        raise ValueError(f"{name} is {value}: {least} to {most} is wanted")
    return count


def _changes(before: DeviceProfile, now: DeviceProfile) -> list[str]:
    """In words, each value that is another than it was by more than measuring explains."""
    changes = []
    for field in fields(DeviceProfile):
        then, value = getattr(before, field.name), getattr(now, field.name)
        if not math.isclose(then, value, rel_tol=NOISE[field.name]):
            changes.append(f"{field.name} {then:.4g} -> {value:.4g}")
    return changes


def _member(values: Mapping[str, Any]) -> ClientInfo:
    return ClientInfo(
        profile=read_profile(values),
        num_examples=read_count(values["num-examples"], "num-examples", least=1),
        partition=_optional(values, "partition-id"),
        num_partitions=_optional(values, "num-partitions"),
    )


def _optional(values: Mapping[str, Any], key: str) -> int | None:
    return read_count(values[key], key, most=MOST_PARTITIONS) if key in values else None
