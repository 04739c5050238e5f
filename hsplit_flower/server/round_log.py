"""What the log says of a round: one table of those that finished, and a line for each trouble."""

from logging import INFO, WARNING
from typing import final

from flwr.common.logger import log

from ..reports.client_records import TrainedClient
from ..reports.metrics import TrainingLine
from ..reports.round_table import table_lines
from .client_lines import client_lines
from .terminal import terminal


@final
class RoundLog:
    """Tells rounds of one run; who fails again for the same reason is not told again.

    Who had no part in a round was told when that was found out.
    """

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def trained(self, line: TrainingLine, *, least: int) -> None:
        """Say what came of a round of training.

        Parameters
        ----------
        line
            What is known of it.
        least
            How many clients must finish for it to count.
        """
        for text in table_lines(line, is_terminal=terminal() is not None):
            log(INFO, "\t%s", text)
        reasons = {name: own.dropped for name, own in line.clients.items() if own.dropped}
        fresh = {name: why for name, why in reasons.items() if self._told.get(name) != why}
        self._told = reasons
        left_out = {name: f"is left out: {why}" for name, why in fresh.items()}
        for text in (*client_lines(left_out), *client_lines(doubts(line))):
            log(WARNING, "\t%s", text)
        if not line.completed:
            num_finished = sum(client.counts for client in line.clients.values())
            log(
                WARNING,
                "\tround %s does not count: %s clients finished, %s are wanted; the global "
                "adapter stays as it is",
                line.server_round,
                num_finished,
                least,
            )


def doubts(line: TrainingLine) -> dict[str, str]:
    """Of each client of which less is used than it asks for, what is not."""
    told = {name: _doubt(client) for name, client in line.clients.items() if client.counts}
    return {name: doubt for name, doubt in told.items() if doubt}


def _doubt(client: TrainedClient) -> str:
    words = []
    if not client.selected:
        words.append("is not selected")
    if client.num_shortened:
        words.append(
            f"is SHORTENED in {client.num_shortened} weights, to {client.least_kept:.2g} of what "
            f"they are and more: its change of {client.longest_change} is "
            f"{client.times_the_median:.3g} times the median"
        )
    if client.counted_examples < client.num_examples:
        words.append(
            f"counts as {client.counted_examples} of the {client.num_examples} examples it claims"
        )
    return "; ".join(words)
