"""Who is there and what they have: device profiles of the nodes that have been asked."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from logging import INFO, WARNING
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from ..names import NUMBERED, UNNAMED, ClientNames
from ..settings import Model
from ..settings.device import DEVICE_KEYS
from ..types import ClientInfo, DeviceProfile
from ..wire.error_text import MOST_NAME_CHARACTERS, one_line, signature
from ..wire.instructions import PROFILE_KEY, QUERY_KEY
from .client_lines import client_lines
from .run_base import RunBase

QUERY_TIMEOUT_SECONDS = 120.0
# More than anybody has, and so little that sums over clients stay within 64 bits.
LARGEST_COUNT = 2**40
# A fleet is made with a device for each partition.
MOST_PARTITIONS = 2**16
NO_DESCRIPTION = "no device description"
UNKNOWN = RunBase()
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

    Attributes
    ----------
    known
        Who has answered.
    unanswered
        Who has not, or not so that it can be read, when last asked, and why.
    names
        Of all that were ever asked. A client keeps its name while it is asked anew.
    """

    known: Mapping[int, ClientInfo] = field(default_factory=dict)
    unanswered: Mapping[int, str] = field(default_factory=dict)
    names: ClientNames = NUMBERED

    def among(self, nodes: Iterable[int]) -> dict[int, ClientInfo]:
        """What those of these nodes have that are known."""
        return {node: self.known[node] for node in nodes if node in self.known}

    def asked(
        self,
        grid: Grid,
        nodes: Iterable[int],
        *,
        model: Model,
        base: RunBase = UNKNOWN,
        anew: Collection[int] = (),
    ) -> "ClientRegistry":
        """After those of the nodes were asked that are not known, and others once more.

        Parameters
        ----------
        grid, nodes
            Whom to ask through what.
        model
            Which they must have, and for whose dtype they measure their speed.
        base
            Of that model; who has another one is unknown like who does not answer.
        anew
            Nodes that are asked again even if they are known. A node that does not answer is
            unknown from then on.
        """
        strangers = [node for node in nodes if node not in self.known and node not in anew]
        wanted = [*strangers, *anew]
        if not wanted:
            return self
        if any(node not in self.known and node not in self.unanswered for node in wanted):
            log(INFO, "Asking %s nodes what their devices have", len(wanted))
        answers = ask(grid, wanted, model=model).sorted_out(base, self.known)
        registry = self._named(answers)
        news = {
            registry.names.of(node): f"is left out: {reason}"
            for node, reason in answers.unanswered.items()
            if self.unanswered.get(node) != reason
        }
        for line in client_lines(news):
            log(WARNING, "\t> %s", line)
        known = {node: info for node, info in self.known.items() if node not in wanted}
        before = {node: why for node, why in self.unanswered.items() if node not in wanted}
        registry = replace(registry, known=known, unanswered={**before, **answers.unanswered})
        met = {node: _met(info, self.known.get(node)) for node, info in answers.known.items()}
        registry = replace(registry, known={**registry.known, **met})
        return registry.updated({node: info.profile for node, info in answers.known.items()})

    def updated(self, profiles: Mapping[int, DeviceProfile]) -> "ClientRegistry":
        """After clients have said what their devices have by now; what has changed is logged.

        A measurement moves a little from one round to the next; that is no change.
        """
        changes = {
            node: "; ".join(found)
            for node, profile in profiles.items()
            if (found := _changes(self.known[node].profile, profile))
        }
        told = {self.names.of(node): f"has changed: {what}" for node, what in changes.items()}
        for line in client_lines(told):
            log(INFO, "\t> %s", line)
        new = {node: replace(self.known[node], profile=profiles[node]) for node in changes}
        return replace(self, known={**self.known, **new}) if new else self

    def _named(self, answers: "Answers") -> "ClientRegistry":
        """With names for those that had none; who has not said one may say it later."""
        names = self.names
        unnamed = {node for node in answers.known if names.of(node).startswith(UNNAMED)}
        # In an order that does not depend on who was the fastest to answer.
        for node in sorted(answers.known, key=lambda each: (_order(answers.known[each]), each)):
            if node not in names.by_client or node in unnamed:
                names = names.with_client(node, answers.known[node].name)
        for node in answers.unanswered:
            if node not in names.by_client:
                names = names.with_client(node, answers.names.get(node, UNNAMED))
        return replace(self, names=names)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Who has said what its device has, and why the others have not, with names where they say."""

    known: Mapping[int, ClientInfo] = field(default_factory=dict)
    unanswered: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)

    def sorted_out(self, base: RunBase, others: Mapping[int, ClientInfo]) -> "Answers":
        """Without those that have another base, which is why they are left out."""
        let_in, refused = base.sorted_out(others, self.known)
        return Answers(
            known=let_in,
            unanswered={**self.unanswered, **refused},
            names={**self.names, **{node: self.known[node].name for node in refused}},
        )


def ask(grid: Grid, nodes: Collection[int], *, model: Model) -> Answers:
    """What these nodes answer; of who does not, or not so that it can be read, the reason."""
    about = ConfigRecord(
        {
            "dtype": model.computes_in,
            "quantised": model.quantised,
            "model": model.name,
            "revision": model.revision,
        }
    )
    query = RecordDict({QUERY_KEY: about})
    messages = [
        Message(content=query, message_type=MessageType.QUERY, dst_node_id=node) for node in nodes
    ]
    known: dict[int, ClientInfo] = {}
    names: dict[int, str] = {}
    unanswered = dict.fromkeys(nodes, NO_DESCRIPTION)
    for reply in grid.send_and_receive(messages, timeout=QUERY_TIMEOUT_SECONDS):
        node = reply.metadata.src_node_id
        if reply.has_error():
            reason, name = signature(str(reply.error.reason))
            unanswered[node] = one_line(reason)
            names |= {node: one_line(name, MOST_NAME_CHARACTERS)} if name else {}
            continue
        try:
            known[node] = _client_info(reply.content.config_records[PROFILE_KEY])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            unanswered[node] = f"its device description cannot be read: {one_line(repr(error))}"
    unanswered = {node: reason for node, reason in unanswered.items() if node not in known}
    return Answers(known=known, unanswered=unanswered, names=names)


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


def _met(now: ClientInfo, before: ClientInfo | None) -> ClientInfo:
    """What is known after a node's answer, but for what its device has by now.

    More memory is no noise where it was asked anew: it may be what the node was left out for.
    """
    if before is None or now.profile.memory_bytes > before.profile.memory_bytes:
        return now
    return replace(now, profile=before.profile)


def _changes(before: DeviceProfile, now: DeviceProfile) -> list[str]:
    """By the keys of a node config, each value that is another by more than measuring explains."""
    changes = []
    for name, key in DEVICE_KEYS.items():
        then, value = getattr(before, key.field), getattr(now, key.field)
        if not math.isclose(then, value, rel_tol=NOISE[key.field]):
            changes.append(f"{name} {then / key.unit:.4g} -> {value / key.unit:.4g}")
    return changes


def _client_info(values: Mapping[str, Any]) -> ClientInfo:
    return ClientInfo(
        profile=read_profile(values),
        num_examples=read_count(values["num-examples"], "num-examples", least=1),
        num_steps=read_count(values.get("num-steps", 0), "num-steps"),
        base=str(values.get("base", "")),
        partition=_optional(values, "partition-id"),
        num_partitions=_optional(values, "num-partitions"),
        name=one_line(str(values.get("name", "")).strip(), MOST_NAME_CHARACTERS),
    )


def _order(client: ClientInfo) -> tuple[int, str]:
    """By which clients are named that are met at once."""
    return (MOST_PARTITIONS if client.partition is None else client.partition), client.name


def _optional(values: Mapping[str, Any], key: str) -> int | None:
    return read_count(values[key], key, most=MOST_PARTITIONS) if key in values else None
