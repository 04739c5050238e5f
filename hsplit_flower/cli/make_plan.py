"""The plan of a run, from the run's settings, and what changes of them would bring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from ..errors import ConfigError, InfeasibleBudgetError, SplitError
from ..methods import HSPLIT_LORA
from ..server.round_planner import RoundPlanner
from ..settings import DTYPE_BYTES, Model, RunSettings
from ..settings.device import GIGABYTE
from ..simulation import Device, fleet_devices, fleet_size, worker_profile
from ..splitting import Architecture, Checkpoint, read_architecture
from ..types import DeviceProfile
from .plan_gains import Change, Gain, changes
from .plan_question import PlanQuestion
from .plan_report import PlanReport, profiles_of, worker_parts
from .run_outlook import Outlooks, RunOutlook


def make_report(settings: RunSettings, question: PlanQuestion) -> PlanReport:
    """The plan, and what it was made from.

    A worker that is short has its table too: made as if it were not.

    Parameters
    ----------
    settings
        Of the run, with a fleet. A dtype that was not said is the one of the model's config.json.
    question
        How many clients, how long, and which worker.

    Raises
    ------
    ConfigError
        If a setting does not fit the model, or the fleet cannot be read.
    UnsupportedModelError
        If there is no such model, or it cannot be split.
    InfeasibleBudgetError
        If no client can hold its part.
    """
    model = settings.model
    config = Checkpoint(source=model.name, revision=model.revision or None).config()
    settings = settings.replace(model=_typed(model, config))
    asked = _Asked(config=config, architecture=read_architecture(config), question=question)
    planner = asked.planner(settings)
    devices = fleet_devices(
        settings.simulation.fleet,
        num_devices=question.clients or fleet_size(settings.simulation.fleet),
        whole_model_bytes=planner.whole_model_bytes,
        seed=settings.training.seed,
    )
    worker = _worker(settings, question)
    outlooks = asked.outlooks(settings, planner, devices, worker)
    run, worker_lacks = _run(outlooks)
    return PlanReport(
        model=model.name,
        dtype=settings.model.dtype,
        fleet=settings.simulation.fleet,
        costs=planner.costs,
        settings=planner.settings,
        devices=devices,
        worker=worker,
        whole_model_bytes=planner.whole_model_bytes,
        run=run,
        worker_lacks=worker_lacks,
        gains=[asked.gain(change, devices, worker) for change in changes(settings)],
    )


def _run(outlooks: Outlooks) -> tuple[RunOutlook, str]:
    """The run, and what the worker lacks, if it is short: then as if it were not."""
    try:
        return outlooks.run(), ""
    except InfeasibleBudgetError as error:
        # Raises the same where it is a client's memory that is short.
        roomy = replace(outlooks.worker, memory_bytes=math.inf)
        return replace(outlooks, worker=roomy).run(), str(error)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A model, and for which runs of it plans are made."""

    config: PretrainedConfig
    architecture: Architecture
    question: PlanQuestion

    def planner(self, settings: RunSettings) -> RoundPlanner:
        """What plans the run's rounds."""
        try:
            return RoundPlanner(self.config, self.architecture, settings, HSPLIT_LORA)
        except SplitError as error:
            raise ConfigError(
                f"planning.min-cut is {settings.planning.min_cut}: {error}"
            ) from error

    def outlooks(
        self,
        settings: RunSettings,
        planner: RoundPlanner,
        devices: Sequence[Device],
        worker: DeviceProfile,
        step_ratio: int = 1,
    ) -> Outlooks:
        """What looks ahead in the run."""
        training = settings.training
        part_size = training.micro_batch_size or training.batch_size
        return Outlooks(
            costs=planner.costs,
            settings=planner.settings,
            aggregation=settings.aggregation,
            profiles=profiles_of(devices),
            worker=worker,
            num_rounds=self.question.num_server_rounds,
            num_steps=self.question.local_steps * step_ratio,
            num_parts=math.ceil(training.batch_size / part_size),
            in_flight=settings.link.in_flight,
        )

    def gain(self, change: Change, devices: Sequence[Device], worker: DeviceProfile) -> Gain:
        """The same devices and the same number of examples, with other settings."""
        planner = self.planner(change.settings)
        outlooks = self.outlooks(change.settings, planner, devices, worker, change.step_ratio)
        try:
            run = outlooks.run()
        except InfeasibleBudgetError:
            return Gain(words=change.words, run=None, worker_bytes=math.nan)
        needed = worker_parts(run.last, planner.costs, planner.settings)
        return Gain(words=change.words, run=run, worker_bytes=needed.total_bytes)


def _worker(settings: RunSettings, question: PlanQuestion) -> DeviceProfile:
    gigabytes = question.worker_memory_gb
    memory_bytes = math.inf if gigabytes is None else gigabytes * GIGABYTE
    own = DeviceProfile(memory_bytes=memory_bytes, flops_per_second=1.0)
    return worker_profile(settings.simulation.fleet, own)


def _typed(model: Model, config: PretrainedConfig) -> Model:
    """With config.json's own dtype, where none was said, and that is one that we compute in."""
    own = str(getattr(config.get_text_config(), "dtype", None)).removeprefix("torch.")
    is_said = "dtype" in model.model_fields_set
    return model if is_said or own not in DTYPE_BYTES else model.replace(dtype=own)
