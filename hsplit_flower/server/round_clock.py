"""How long a round would have taken on the devices that it was planned for."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from transformers import PretrainedConfig

from ..costs import ModelCosts, PartSeconds, part_seconds, seconds_at, trace_costs
from ..methods import HSPLIT_LORA, Method
from ..settings import PlanSettings
from ..simulation.clock import RoundClock, simulate_round
from ..types import DeviceProfile
from .client_report import ClientReport
from .plan_basis import costs_for, held_ranks


class FleetClock:
    """Reckons a round's seconds from what its clients did.

    Parameters
    ----------
    config, costs
        Of the model.
    settings
        Of its plans.
    method
        Whose rounds they are.
    batches_per_step
        How many are passed through the model for one optimizer step.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        costs: ModelCosts,
        settings: PlanSettings,
        method: Method = HSPLIT_LORA,
        batches_per_step: int = 1,
    ) -> None:
        self._batches_per_step = batches_per_step
        self._config = config
        self._costs = costs
        self._settings = settings
        self._method = method

    def round(
        self,
        reports: Mapping[int, ClientReport],
        *,
        devices: Mapping[int, DeviceProfile],
        worker: DeviceProfile,
        update_ranks: Mapping[str, int],
    ) -> RoundClock:
        """How long the clients that finished would have taken on their own devices.

        Plans are made for the largest batches; a round is as long as the mean of a client's were.
        """
        steps = {}
        for node, report in reports.items():
            if report.dropped:
                continue
            first, other = (
                self._step(
                    report,
                    profile=devices[node],
                    worker=worker,
                    update_ranks=update_ranks,
                    scores=scores,
                )
                for scores in (self._method.is_split, False)
            )
            num_batches = report.num_steps * self._batches_per_step
            steps[node] = [first, *[other] * (num_batches - 1)][:num_batches]
        return simulate_round(steps)

    def _step(
        self,
        report: ClientReport,
        *,
        profile: DeviceProfile,
        worker: DeviceProfile,
        update_ranks: Mapping[str, int],
        scores: bool,
    ) -> PartSeconds:
        """One batch of a client's round, of as many tokens as its batches had in the mean."""

        def seconds(costs: ModelCosts) -> PartSeconds:
            return part_seconds(
                costs,
                report.plan,
                profile=profile,
                worker=worker,
                settings=self._settings,
                update_ranks=held_ranks(self._method, update_ranks, costs),
                scores=scores,
            )

        # A smaller batch counts as one of shorter rows, and no client's word for more than was
        # planned for.
        workload = self._costs.workload
        num_rows = report.num_steps * self._batches_per_step * workload.batch_size
        length = max(0.0, report.num_batch_tokens / num_rows)
        if length >= workload.sequence_length:
            return seconds(self._costs)
        known = (self._costs, self._shorter_costs)
        return seconds_at(length, {c.workload.sequence_length: seconds(c) for c in known})

    @cached_property
    def _shorter_costs(self) -> ModelCosts:
        """The model's costs at another length of rows; traced when batches first were shorter."""
        workload = self._costs.workload
        length = workload.sequence_length // 2 or 2
        costs = trace_costs(self._config, replace(workload, sequence_length=length))
        return costs_for(self._method, costs)
