"""Who is there and what they have: device profiles of the nodes that have been asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from logging import INFO, WARNING
from typing import Any

from flwr.app import Message, MessageType, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from ..transport.orders import PROFILE_KEY
from ..types import DeviceProfile

QUERY_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Member:
    """One client: what its device has, and how many examples it trains on."""

    profile: DeviceProfile
    num_examples: int
    partition: int | None = None
    num_partitions: int | None = None


class Roster:
    """Members by node id. A node is asked once; its answer stands until it is forgotten."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}

    def members(self, grid: Grid, node_ids: Iterable[int]) -> dict[int, Member]:
        """What the nodes have; those not met yet are asked, those that do not say are left out."""
        wanted = list(node_ids)
        if strangers := [node for node in wanted if node not in self._members]:
            self._ask(grid, strangers)
        return {node: self._members[node] for node in wanted if node in self._members}

    def met(self, connected: Iterable[int]) -> dict[int, Member]:
        """All that have been asked so far and are connected still."""
        return {node: self._members[node] for node in connected if node in self._members}

    def _ask(self, grid: Grid, node_ids: list[int]) -> None:
        log(INFO, "Asking %s nodes what their devices have", len(node_ids))
        messages = [
            Message(content=RecordDict(), message_type=MessageType.QUERY, dst_node_id=node)
            for node in node_ids
        ]
        for reply in grid.send_and_receive(messages, timeout=QUERY_TIMEOUT_SECONDS):
            node = reply.metadata.src_node_id
            if reply.has_error():
                log(WARNING, "\t> client %s is left out: %s", node, reply.error.reason)
                continue
            try:
                self._members[node] = _member(reply.content.config_records[PROFILE_KEY])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                log(
                    WARNING,
                    "\t> client %s is left out, its device description cannot be read: %r",
                    node,
                    error,
                )
        for node in set(node_ids) - set(self._members):
            log(WARNING, "\t> client %s is left out: no device description", node)


def _member(values: Mapping[str, Any]) -> Member:
    profile = DeviceProfile(
        **{
            field.name: float(values[field.name.replace("_", "-")])
            for field in fields(DeviceProfile)
        }
    )
    num_examples = int(values["num-examples"])
    if num_examples < 1:
        raise ValueError(f"num-examples is {num_examples}")
    return Member(
        profile=profile,
        num_examples=num_examples,
        partition=_optional(values, "partition-id"),
        num_partitions=_optional(values, "num-partitions"),
    )


def _optional(values: Mapping[str, Any], key: str) -> int | None:
    return int(values[key]) if key in values else None
