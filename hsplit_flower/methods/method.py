"""What makes one method another than the next: a row of rules."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..adapters import SelfPruning
from ..errors import ConfigError
from ..settings import Aggregation, Planning, PlanSettings, RunSettings, Training
from ..types import Labels, Start
from .rules import PAIRS, AggregationRule, CutRule, RankRule


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row.

    Attributes
    ----------
    name, title, source
        What it is called by a key, what its authors call it, and where they describe it.
    cuts, ranks, aggregation
        Its rules.
    start
        What clients start a round from; None leaves it to the training's settings.
    one_draw
        Whether clients start a round from one draw of fresh factors, the ranks of each being the
        first ones of it, where `shares_draw` does not say otherwise; else each has its own.
    truncates
        Whether a client's model has of the global adapter only as many directions as it trains;
        otherwise it has the others, too, frozen.
    merges
        Whether the global adapter goes into the clients' weights when a round starts, whatever its
        rank; otherwise only where factors would hold more numbers.
    pruning
        How clients lower their own ranks; None where they do not.
    shares_server_adapter
        Whether the worker has one adapter, which every client's steps move in turn; otherwise each
        session has its own.
    """

    name: str
    title: str
    source: str
    cuts: CutRule
    ranks: RankRule
    aggregation: AggregationRule
    start: Start | None = None
    one_draw: bool = True
    truncates: bool = False
    merges: bool = False
    pruning: SelfPruning | None = None
    shares_server_adapter: bool = False

    @property
    def is_split(self) -> bool:
        """Whether clients have a part of the model, and a worker the rest."""
        return self.cuts is not CutRule.WHOLE_MODEL

    @property
    def has_adapters(self) -> bool:
        """Whether adapters are trained; otherwise all parameters of the model are."""
        return self.ranks is not RankRule.NO_ADAPTERS

    @property
    def keeps_pair(self) -> bool:
        """Whether the global adapter is one pair of factors, with which the next round goes on."""
        return self.aggregation in PAIRS

    def shares_draw(self, start: Start) -> bool:
        """Whether clients that start a round so have one draw of fresh factors.

        Who restarts learns in fresh factors alone. Were they the same for all, a round would add no
        more directions than the highest of its ranks; so each has its own.
        """
        return self.one_draw and start is not Start.RESTART

    def is_bounded(self, options: Aggregation) -> bool:
        """Whether the global adapter has a size, and more may be learnt than it has room for."""
        return self.aggregation is AggregationRule.EXACT_SUM and options.is_bounded

    def settings(self, settings: RunSettings) -> RunSettings:
        """A run's settings, with what the method itself decides.

        Raises
        ------
        ConfigError
            Naming everything that the settings ask for and the method does not have.
        """
        problems = [*self._training_problems(settings.training), *self._other_problems(settings)]
        if problems:
            raise ConfigError.listing(self.title, problems)
        return settings.replace(training=self._decided(settings.training))

    def training(self, training: Training) -> Training:
        """The same of the training's settings alone."""
        if problems := list(self._training_problems(training)):
            raise ConfigError.listing(self.title, problems)
        return self._decided(training)

    def _decided(self, training: Training) -> Training:
        """With what the method leaves nobody a choice in."""
        if self.start is not None:
            training = training.replace(start=self.start)
        # Who has the whole model has its head.
        return training if self.is_split else training.replace(labels=Labels.CLIENT)

    def _training_problems(self, training: Training) -> Iterator[str]:
        asked, fixed = training.start, self.start
        if fixed is not None and asked is not fixed and "start" in training.model_fields_set:
            told = f"training.start is {asked.value!r}: its rounds start from {fixed.value!r}"
            yield f"{told}; leave it out"
        if not self.has_adapters and "start" in training.model_fields_set:
            yield "training.start is set: it trains the weights themselves; leave it out"
        if self.aggregation is AggregationRule.EXACT_SUM and asked is Start.FACTORS:
            yield "training.start is 'factors': it sums changes, and averages no factors"
        if not self.is_split and training.personalise_steps:
            count = training.personalise_steps
            yield (
                f"training.personalise-steps is {count}: a client's own adapter is of the blocks "
                "below its cut, and there is none; leave it out"
            )
        if not self.is_split and training.micro_batch_size:
            size = training.micro_batch_size
            yield f"training.micro-batch-size is {size}: nothing is sent, whole batches are trained"
        if self.shares_server_adapter and training.labels is Labels.CLIENT:
            yield "training.labels is 'client': the worker computes the loss"
        if self.shares_server_adapter and training.micro_batch_size:
            size = training.micro_batch_size
            yield f"training.micro-batch-size is {size}: whole batches are sent"
        if self.shares_server_adapter and training.max_gradient_norm:
            yield (
                f"training.max-gradient-norm is {training.max_gradient_norm:g}: the worker's "
                "adapter would wait for the norm of one client's gradients while others step it"
            )
        if self.shares_server_adapter and training.gradient_accumulation_steps > 1:
            count = training.gradient_accumulation_steps
            yield (
                f"training.gradient-accumulation-steps is {count}: others step the worker's "
                "adapter between two batches"
            )

    def _other_problems(self, settings: RunSettings) -> Iterator[str]:
        worker, options = settings.worker, settings.aggregation
        if self.aggregation is not AggregationRule.EXACT_SUM and options.sums_otherwise:
            what = "adds up no changes" if self.is_split else "has an aggregation of its own"
            yield f"aggregation has options of an exact sum: it {what}; leave them out"
        if not self.has_adapters and options.selection != "all":
            asked_for = options.selection
            yield f"aggregation.selection is {asked_for!r}: it has no adapters to compare"
        is_pool = worker.placement == "ray" and worker.num_workers != 1
        if self.shares_server_adapter and is_pool:
            yield (
                f"worker.placement is 'ray' with worker.num-workers = {worker.num_workers}: it has "
                "one adapter on the worker, so 1 is wanted"
            )

    def check_base(self, quantised: str) -> None:
        """See that a base can be trained so whose matrices are quantised to this; empty if not.

        Raises
        ------
        ConfigError
            If it is to be changed, which a quantised one never is.
        """
        if not quantised or (self.has_adapters and not self.merges):
            return
        does = (
            "adds the global adapter to the weights"
            if self.has_adapters
            else "trains the weights themselves"
        )
        raise ConfigError(
            f"{self.title} {does}, and the base's are quantised ({quantised}), which are never "
            "changed: choose a base and a dtype that are not quantised, or another method"
        )

    def plan_settings(self, planning: Planning, training: Training) -> PlanSettings:
        """What a plan of this method is made from."""
        return PlanSettings(
            **planning.given(),
            labels=training.labels,
            start=training.start,
            one_cut=self.cuts is CutRule.ONE_FOR_ALL,
            one_rank=self.ranks is RankRule.ONE_FOR_ALL,
        )
