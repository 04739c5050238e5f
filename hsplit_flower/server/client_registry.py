"""Who is there and what they have: device profiles of the nodes that have been asked."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from logging import INFO, WARNING
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from ..settings.device import DEVICE_KEYS
from ..types import ClientInfo, DeviceProfile
from ..wire.error_text import one_line
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


@dataclass(frozen=True, kw_only=True)
class ClientRegistry:
    """What every client that has been asked has said of itself, by node id.

    A node is asked once. After that each of its replies says what its device has. A node that did
    not reply, because it failed or had no task, can be asked again.
    """

    known: Mapping[int, ClientInfo] = field(default_factory=dict)

    def among(self, nodes: Iterable[int]) -> dict[int, ClientInfo]:
        """What those of these nodes have that are known."""
        return {node: self.known[node] for node in nodes if node in self.known}

    def asked(
        self, grid: Grid, nodes: Iterable[int], *, dtype: str, anew: Collection[int] = ()
    ) -> "ClientRegistry":
        """After those of the nodes were asked that are not known, and others once more.

        Parameters
        ----------
        grid, nodes
            Whom to ask through what.
        dtype
            What the model computes in, for which nodes measure their speed.
        anew
            Nodes that are asked again even if they are known. A node that does not answer is
            unknown from then on.
        """
        strangers = [node for node in nodes if node not in self.known and node not in anew]
        wanted = [*strangers, *anew]
        if not wanted:
            return self
        others = {node: info for node, info in self.known.items() if node not in anew}
        registry = ClientRegistry(known=others)
        for node, info in ask(grid, wanted, dtype=dtype).items():
            registry = registry._met(node, info, self.known.get(node))
        return registry

    def updated(self, node: int, profile: DeviceProfile) -> "ClientRegistry":
        """After a client has said what its device has by now; what has changed is logged.

        A measurement moves a little from one round to the next; that is no change.
        """
        client = self.known[node]
        changes = _changes(client.profile, profile)
        if not changes:
            return self
        log(INFO, "\t> client %s has changed: %s", node, "; ".join(changes))
        return self._with(node, replace(client, profile=profile))

    def _met(self, node: int, now: ClientInfo, before: ClientInfo | None) -> "ClientRegistry":
        """After a node's answer.

        More memory is no noise where it was asked anew: it may be what the node was left out for.
        """
        if before is None or now.profile.memory_bytes > before.profile.memory_bytes:
            return self._with(node, now)
        return self._with(node, replace(now, profile=before.profile)).updated(node, now.profile)

    def _with(self, node: int, info: ClientInfo) -> "ClientRegistry":
        return ClientRegistry(known={**self.known, node: info})


def ask(grid: Grid, nodes: Collection[int], *, dtype: str) -> dict[int, ClientInfo]:
    """What these nodes answer; who does not, or not so that it can be read, is logged."""
    log(INFO, "Asking %s nodes what their devices have", len(nodes))
    query = RecordDict({QUERY_KEY: ConfigRecord({"dtype": dtype})})
    messages = [
        Message(content=query, message_type=MessageType.QUERY, dst_node_id=node) for node in nodes
    ]
    answers: dict[int, ClientInfo] = {}
    for reply in grid.send_and_receive(messages, timeout=QUERY_TIMEOUT_SECONDS):
        node = reply.metadata.src_node_id
        if reply.has_error():
            reason = one_line(str(reply.error.reason))
            log(WARNING, "\t> client %s is left out: %s", node, reason)
            continue
        try:
            answers[node] = _client_info(reply.content.config_records[PROFILE_KEY])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            log(
                WARNING,
                "\t> client %s is left out, its device description cannot be read: %r",
                node,
                error,
            )
    for node in set(nodes) - set(answers):
        log(WARNING, "\t> client %s is left out: no device description", node)
    return answers


def read_profile(values: Mapping[str, Any]) -> DeviceProfile:
    """What a client's description says of its device.

    Raises
    ------
    ValueError
        If no device has that: one client's numbers are in what everybody is planned from.
    """
    profile = DeviceProfile(
        **{each.name: float(values[each.name.replace("_", "-")]) for each in fields(DeviceProfile)}
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
    for each in fields(DeviceProfile):
        then, value = getattr(before, each.name), getattr(now, each.name)
        if not math.isclose(then, value, rel_tol=NOISE[each.name]):
            changes.append(f"{each.name} {then:.4g} -> {value:.4g}")
    return changes


def _client_info(values: Mapping[str, Any]) -> ClientInfo:
    return ClientInfo(
        profile=read_profile(values),
        num_examples=read_count(values["num-examples"], "num-examples", least=1),
        partition=_optional(values, "partition-id"),
        num_partitions=_optional(values, "num-partitions"),
    )


def _optional(values: Mapping[str, Any], key: str) -> int | None:
    return read_count(values[key], key, most=MOST_PARTITIONS) if key in values else None
