"""All settings of a run: a group for each of the things that a run is made of."""

from collections.abc import Mapping
from typing import Any, TypedDict

from pydantic import model_validator
from typing_extensions import Self

from ..types import WireType
from .aggregation import Aggregation
from .client import Client
from .fields import setting
from .group import Settings
from .link import Link
from .model import Model
from .planning import Planning
from .presets import with_preset
from .sampling import Sampling
from .simulation import Simulation
from .training import Training
from .worker import Worker


class Groups(TypedDict, total=False):
    """What a strategy's constructor takes by name; what is left out has its defaults."""

    planning: Planning
    aggregation: Aggregation
    link: Link
    worker: Worker
    sampling: Sampling
    client: Client
    simulation: Simulation


class RunSettings(Settings):
    """Every setting that a run has, whatever its method."""

    model: Model = setting(Model(), "Which base model.")
    training: Training = setting(Training(), "How adapters are trained.")
    planning: Planning = setting(Planning(), "What each client may be given.")
    aggregation: Aggregation = setting(Aggregation(), "How changes are put together.")
    link: Link = setting(Link(), "What crosses the cut, and how.")
    worker: Worker = setting(Worker(), "Where the split worker runs.")
    sampling: Sampling = setting(Sampling(), "Who takes part in a round.")
    client: Client = setting(Client(), "What is asked of a client's process.")
    simulation: Simulation = setting(Simulation(), "What simulated devices have.")

    @classmethod
    def of(cls, model: str | Model, training: Training | None, groups: Groups) -> Self:
        """The settings that a strategy's constructor was given.

        Raises
        ------
        ConfigError
            If a group is not what its name says.
        """
        named = Model(name=model) if isinstance(model, str) else model
        given: dict[str, Any] = {"model": named, "training": training or Training(), **groups}
        asked = {name: group for name, group in given.items() if group is not None}
        return cls(**{**asked, "model": named})

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        training = values.get("training")
        if not isinstance(training, Training) or not training.preset:
            return values
        return {**values, **with_preset(training.preset, values, GROUPS)}

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        takes_every_card = self.worker.placement == "ray" and not self.worker.num_workers
        if takes_every_card and self.simulation.lease_card_gb:
            raise ValueError(
                'worker.placement = "ray" takes every card, and with simulation.lease-card-gb the '
                "clients want some, too: say with worker.num-workers how many cards are the "
                "workers'"
            )
        if self.training.max_gradient_norm and (self.link.hidden_noise or self.link.gradient_noise):
            raise ValueError(
                "training.max-gradient-norm tells the worker the norm of a client's gradients, "
                "which no noise of link covers: set one of them to 0"
            )
        return self

    @property
    def hidden_type(self) -> WireType:
        """What hidden states are sent as: as the base computes them, if nothing is said."""
        return self.link.wire_type or WireType(self.model.computes_in)

    @property
    def lease_card_bytes(self) -> float | None:
        """What clients share of each card; None for no leases."""
        return self.simulation.lease_card_bytes


GROUPS: Mapping[str, type[Settings]] = {
    field.name: field.info.annotation
    for field in RunSettings.known()
    if isinstance(field.info.annotation, type)
}
"""Every group by its name, which its keys begin with."""
