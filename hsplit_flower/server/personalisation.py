"""Adapters of the clients' own, after the last round: asked for, never collected.

Each client measures the global adapter on its held-out examples, trains an adapter of its own below
its cut, and measures again with both. What comes back of it are losses and counts. The run has its
result by then: no state is changed here, and nothing that fails here ends it.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from logging import INFO, WARNING
from typing import final

from flwr.app import ConfigRecord, MessageType
from flwr.common.logger import log
from flwr.serverapp import Grid

from ..reports.client_records import PersonalisedClient
from ..reports.metrics import PersonalisationLine
from ..settings import RunSettings
from ..types import ClientPlan
from .client_report import ClientReport
from .collection import EvaluateResults
from .round import OpenRound
from .round_messages import RoundMessages
from .round_setup import RoundSetup
from .sessions import Sessions
from .state import RunState

Reports = dict[int, ClientReport]


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What all three messages to a client have in common."""

    grid: Grid
    state: RunState
    config: ConfigRecord
    timeout_seconds: float


@final
class Personalisation:
    """Asks every client that has a part of the standing plan.

    Parameters
    ----------
    settings
        Of the run: how many steps each takes; 0 asks nobody.
    setup, messages, sessions
        As a round's.

    Attributes
    ----------
    observer
        Is called with what the clients gained.
    """

    def __init__(
        self,
        settings: RunSettings,
        setup: RoundSetup,
        messages: RoundMessages,
        sessions: Sessions,
    ) -> None:
        self._steps = settings.training.personalise_steps
        self._setup = setup
        self._messages = messages
        self._sessions = sessions
        self.observer: Callable[[PersonalisationLine], None] | None = None

    def after(
        self, state: RunState, grid: Grid, config: ConfigRecord | None, *, timeout_seconds: float
    ) -> None:
        """Ask the clients after the last round, and tell what they gained.

        Parameters
        ----------
        state
            Of the run, which is left as it is.
        grid, config, timeout_seconds
            Of the run: as its messages have them.
        """
        if not self._steps or state.standing is None:
            return
        own = config or ConfigRecord()
        order = _Order(grid=grid, state=state, config=own, timeout_seconds=timeout_seconds)
        try:
            self._ask(order)
        except Exception as error:  # whatever it is, the run has its result
            log(WARNING, "clients' own adapters: %s", error if str(error) else repr(error))
        finally:
            self._sessions.close_all()

    def _ask(self, order: _Order) -> None:
        started, state = time.perf_counter(), order.state
        self._sessions.restart_dead()
        begun = self._setup.everybody(state, order.grid, self._sessions.describe())
        log(
            INFO,
            "%s clients train %s steps on adapters of their own",
            len(begun.parts),
            self._steps,
        )
        clients: dict[str, PersonalisedClient] = {}
        nodes = iter(begun.parts)
        while some := list(islice(nodes, self._sessions.describe().max_sessions)):
            clients |= self._gains(begun, some, order)
        for name, client in clients.items():
            log(INFO, "\t> client %s: %s", name, _in_words(client))
        seconds = time.perf_counter() - started
        line = PersonalisationLine(
            server_round=state.server_round, seconds=seconds, clients=clients
        )
        if self.observer is not None:
            self.observer(line)

    def _gains(
        self, begun: OpenRound, nodes: Collection[int], order: _Order
    ) -> dict[str, PersonalisedClient]:
        """Of these clients by name: who fails in one of the three is not asked the next."""
        before = self._asked(begun, nodes, order, trains=False, steps=0)
        trained = self._asked(begun, _done(before), order, trains=True, steps=self._steps)
        after = self._asked(begun, _done(trained), order, trains=False, steps=self._steps)
        return {
            begun.names.of(node): _gain(before[node], trained.get(node), after.get(node))
            for node in nodes
        }

    def _asked(
        self,
        begun: OpenRound,
        nodes: Iterable[int],
        order: _Order,
        *,
        trains: bool,
        steps: int,
    ) -> Reports:
        """What became of one message to each of these clients."""
        parts = {node: _part(begun.parts[node], trains=trains) for node in nodes}
        kind = MessageType.TRAIN if trains else MessageType.EVALUATE
        opened, messages = self._messages.first(
            replace(begun, parts=parts, message_type=kind),
            order.state,
            order.config,
            num_rounds=begun.server_round,
            least=1,
            timeout_seconds=order.timeout_seconds,
            personal_steps=steps,
        )
        if not messages:
            return {}
        try:
            replies = order.grid.send_and_receive(messages, timeout=order.timeout_seconds)
            return dict(
                EvaluateResults.of(opened.tasks).with_replies(replies, opened.tasks).reports
            )
        finally:
            self._sessions.close_all()


def _part(planned: ClientPlan, *, trains: bool) -> ClientPlan:
    """Its cut and ranks; evaluation trains nothing."""
    if trains:
        return planned
    return ClientPlan(span=planned.span, ranks={}, worker_seconds=planned.worker_seconds)


def _done(reports: Reports) -> list[int]:
    return [node for node, one in reports.items() if one.dropped is None]


def _gain(
    before: ClientReport, trained: ClientReport | None, after: ClientReport | None
) -> PersonalisedClient:
    """What is written of a client, from what became of its messages."""
    told = [one for one in (before, trained, after) if one is not None]
    dropped = next((one.dropped for one in told if one.dropped is not None), None)
    if dropped is None and trained is not None and not trained.num_steps:
        dropped = "it took no step"
    loss = before.loss
    gained = after.loss if after is not None and dropped is None else None
    return PersonalisedClient(
        num_steps=trained.num_steps if trained is not None else 0,
        num_tokens=loss.num_tokens,
        loss_before=loss.mean if loss.num_tokens else None,
        perplexity_before=loss.perplexity if loss.num_tokens else None,
        loss_after=gained.mean if gained and gained.num_tokens else None,
        perplexity_after=gained.perplexity if gained and gained.num_tokens else None,
        dropped=dropped,
    )


def _in_words(client: PersonalisedClient) -> str:
    if client.dropped is not None:
        return f"has no adapter of its own: {client.dropped}"
    if client.perplexity_before is None or client.perplexity_after is None:
        return f"{client.num_steps} steps; it holds out nothing to measure them on"
    return (
        f"perplexity of what it holds out {client.perplexity_before:.4f} -> "
        f"{client.perplexity_after:.4f} with an adapter of its own, {client.num_steps} steps"
    )
