"""What a round's end says to whoever asks: its reports, made of all that is known of it by then."""

import time
from typing import final

from ..metrics import TokenLoss
from ..splitting import Architecture
from .collection import EvaluateResults, TrainResults
from .round import OpenRound
from .round_clock import FleetClock
from .round_report import EvaluationReport, RoundReport
from .state import RunState


@final
class Reporting:
    """Makes the reports of one run's rounds; keeps nothing of them.

    Parameters
    ----------
    architecture
        Of the model.
    clock
        Reckons how long rounds would have taken on a fleet's devices.
    """

    def __init__(self, architecture: Architecture, clock: FleetClock) -> None:
        self._blocks = {weight.name: weight.block for weight in architecture.weights}
        self._clock = clock

    def training(
        self, ended: OpenRound, results: TrainResults, before: RunState, after: RunState
    ) -> RoundReport:
        """What happened in a round of training.

        Parameters
        ----------
        ended, results
            The round, and what its clients brought home.
        before, after
            What was known before it, and is after it.
        """
        method = after.method
        simulated = self._clock.round(
            results.reports,
            devices=ended.devices.profiles,
            worker=ended.worker,
            update_ranks=before.method.ranks,
        )
        return RoundReport(
            server_round=ended.server_round,
            clients=results.reports,
            names=ended.names,
            left_out=ended.left_out,
            replanned=ended.decision.replan,
            planning_reason=ended.decision.reason,
            drift=ended.drift,
            seconds=time.perf_counter() - ended.started_seconds,
            completed=method is not before.method,
            importance=dict(method.importance.scores),
            blocks=self._blocks,
            largest_rank=max(method.ranks.values(), default=0),
            held_back_share=method.held_back_share,
            dropped_share=method.dropped_share,
            moved=tuple(sorted(ended.moved & results.reports.keys())),
            simulated=simulated,
        )

    def evaluation(
        self, ended: OpenRound, results: EvaluateResults, loss: TokenLoss
    ) -> EvaluationReport:
        """What clients have found of the global model; ``loss`` is that of all that count."""
        return EvaluationReport(
            server_round=ended.server_round,
            clients=results.reports,
            seconds=time.perf_counter() - ended.started_seconds,
            loss=loss,
            names=ended.names,
            left_out=ended.left_out,
        )
