"""The messages of a round, to everybody who takes part, and again to whom its worker was lost."""

import time
from collections.abc import Collection
from dataclasses import replace
from logging import WARNING
from typing import final

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.common.logger import log

from ..errors import HSplitError
from ..methods import Method, sent_updates
from ..reports.client_records import LeftOut
from ..settings import RunSettings, SessionSpec
from ..splitting import Architecture
from ..types import Span
from .collection import EvaluateResults, Task, TrainResults
from .dispatch import PendingMessage, Written, written
from .global_adapter import adapter_below
from .instructions import SERVER_APP_SECONDS, gives_way, instructions_for, personal
from .message_bytes import content_bytes
from .round import OpenRound
from .sessions import Sessions
from .state import RunState


@final
class RoundMessages:
    """Opens the sessions of a round and writes to its clients.

    Parameters
    ----------
    settings, method, architecture
        Of the run, and of its model.
    sessions
        Where sessions are opened, and which of them were lost.
    """

    def __init__(
        self,
        settings: RunSettings,
        method: Method,
        architecture: Architecture,
        sessions: Sessions,
    ) -> None:
        self._settings = settings
        self._method = method
        self._architecture = architecture
        self._sessions = sessions

    def first(
        self,
        begun: OpenRound,
        state: RunState,
        config: ConfigRecord,
        *,
        num_rounds: int,
        least: int,
        timeout_seconds: float,
        personal_steps: int = 0,
    ) -> tuple[OpenRound, list[Message]]:
        """A message for each client that takes part; none where too few do.

        Parameters
        ----------
        begun
            The round, with everybody's part.
        state
            Of the run, with the global adapter.
        config
            The user's own, which is sent along.
        num_rounds
            How many the run has.
        least
            With fewer clients the round could not count.
        timeout_seconds
            How long clients have for their replies.
        personal_steps
            Of an adapter that each client keeps; 0 in a round.
        """
        if len(begun.parts) < max(1, least):
            return _too_few(begun, max(1, least)), []
        self._sessions.load_update(state.method.updates)
        pending = self._pending(begun, state, config, num_rounds, personal_steps)
        outgoing = written(
            pending,
            self._sessions,
            message_type=begun.message_type,
            timeout_seconds=timeout_seconds,
        )
        opened = replace(
            begun,
            pending=pending,
            tasks={node: _task(begun, node, own) for node, own in outgoing.items()},
            sent_seconds=time.perf_counter(),
            deadline_seconds=time.monotonic() + timeout_seconds,
        )
        return opened, [own.message for own in outgoing.values()]

    def again(
        self, opened: OpenRound, results: TrainResults | EvaluateResults
    ) -> tuple[OpenRound, list[Message]]:
        """The messages of those clients that lost their worker, for new sessions.

        Whose worker died begins the round anew on another one. Who has not got through to one of a
        pool that lives does so once, on any, and tries for longer.

        None if no worker was lost, none lives, or no time is left.

        Parameters
        ----------
        opened
            The round.
        results
            What has come of it so far.
        """
        died = [n for n in self._sessions.lost(results.unfinished) if n in opened.pending]
        cut_off = self._cut_off(opened, results, died)
        left_seconds = opened.deadline_seconds - time.monotonic()
        if not (died or cut_off) or left_seconds <= 0.0:
            return opened, []
        pending = {node: opened.pending[node] for node in died}
        pending |= {node: _patient(opened.pending[node]) for node in cut_off}
        names = opened.names.listed(pending)
        try:
            outgoing = written(
                pending,
                self._sessions,
                message_type=opened.message_type,
                timeout_seconds=left_seconds,
            )
        except HSplitError as error:
            log(WARNING, "clients %s lost their worker and cannot be moved: %s", names, error)
            return opened, []
        _log_again(opened, died, cut_off)
        tasks = {
            node: _task(opened, node, own, sent_bytes=opened.tasks[node].message_bytes)
            for node, own in outgoing.items()
        }
        opened = replace(
            opened,
            moved=opened.moved | frozenset(died),
            asked_again=opened.asked_again | frozenset(cut_off),
            tasks={**opened.tasks, **tasks},
        )
        return opened, [own.message for own in outgoing.values()]

    def _cut_off(
        self, opened: OpenRound, results: TrainResults | EvaluateResults, died: Collection[int]
    ) -> list[int]:
        """Whose link was cut for longer than a pool's clients try, who give way to another soon."""
        if not gives_way(self._settings):
            return []
        asked = {*died, *opened.asked_again}
        cut_off = [n for n in results.unreached if n in opened.pending and n not in asked]
        traffic = self._sessions.traffic_of(opened.tasks) if cut_off else {}
        # Where nobody's bytes have come, it is the address that is wrong.
        return cut_off if any(own.up_bytes for own in traffic.values()) else []

    def _pending(
        self,
        begun: OpenRound,
        state: RunState,
        config: ConfigRecord,
        num_rounds: int,
        personal_steps: int,
    ) -> dict[int, PendingMessage]:
        sampling = self._settings.sampling
        user_config = ConfigRecord({**config, "server-round": begun.server_round})
        told = instructions_for(
            self._settings,
            self._method,
            begun.parts,
            begun.clients,
            server_round=begun.server_round,
            num_rounds=num_rounds,
            train=begun.trains,
            budgets_bytes={node: _budget(begun, node) for node in begun.parts},
            names=begun.names,
        )
        if personal_steps:
            told = {
                node: personal(own, self._names(begun.parts[node].span), steps=personal_steps)
                for node, own in told.items()
            }
        base = begun.base.text
        return {
            node: PendingMessage(
                instructions=instructions.replace(base=base),
                load=begun.parts[node].worker_seconds,
                arrays=(
                    sampling.arrayrecord_key,
                    self._sent(state, instructions.session, begun.parts[node].span),
                ),
                config=(sampling.configrecord_key, user_config),
            )
            for node, instructions in told.items()
        }

    def _names(self, span: Span) -> set[str]:
        return {weight.name for weight in self._architecture.weights_in(span)}

    def _sent(self, state: RunState, spec: SessionSpec, span: Span) -> ArrayRecord:
        """The adapter as this client's model has it, or all parameters of the model."""
        if not self._method.has_adapters:
            return state.arrays
        updates = state.method.updates
        if spec.truncates:
            updates = sent_updates(self._method, updates, spec.ranks)
        return adapter_below(updates, span, self._architecture)


def _too_few(begun: OpenRound, wanted: int) -> OpenRound:
    """The round without anybody's part in it."""
    kind = "training" if begun.trains else "evaluation"
    reason = f"{len(begun.parts)} clients can take part, {wanted} are wanted: {kind} is left out"
    log(WARNING, "%s", reason)
    rest = dict.fromkeys(begun.parts, LeftOut(kind="too-few", reason=reason))
    return replace(begun, left_out={**begun.left_out, **rest})


def _patient(message: PendingMessage) -> PendingMessage:
    """The same to a client that tries a silent worker for as long as there is no other."""
    told = message.instructions
    link = told.link.replace(patience_seconds=SERVER_APP_SECONDS)
    return replace(message, instructions=told.replace(link=link))


def _log_again(opened: OpenRound, died: Collection[int], cut_off: Collection[int]) -> None:
    names = opened.names
    if died:
        text = "clients %s lost their worker and begin the round anew on others"
        log(WARNING, text, names.listed(died))
    if cut_off:
        text = "clients %s did not get through to a worker that lives, and begin the round anew"
        log(WARNING, text, names.listed(cut_off))


def _task(begun: OpenRound, node: int, own: Written, *, sent_bytes: int = 0) -> Task:
    """What a client is sent home with; ``sent_bytes`` had gone to it in this round before."""
    return Task(
        plan=begun.parts[node],
        client=begun.clients[node],
        name=begun.names.of(node),
        budget_bytes=_budget(begun, node),
        worker=own.worker,
        message_bytes=sent_bytes + content_bytes(own.message),
    )


def _budget(begun: OpenRound, node: int) -> float:
    return begun.devices.profiles[node].memory_bytes
