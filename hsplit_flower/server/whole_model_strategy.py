"""Any method whose clients have the whole model as a Flower strategy."""

from flwr.app import ArrayRecord, Message
from typing_extensions import Unpack

from ..aggregation import check_weights
from ..errors import ConfigError
from ..methods import MethodState
from ..settings import Groups, Model, RunSettings, Training
from ..splitting import build_empty
from ..types import ClientPlan
from .federated_strategy import FederatedStrategy
from .replies import TrainReply, check_side, check_steps, read_reply
from .round_report import EvaluationObserver, Observer
from .sessions import NoSessions


class WholeModelStrategy(FederatedStrategy):
    """Rounds in which each client trains the whole model, with adapters or without.

    There is no split worker. A client is held to its budget like any other: a device that the whole
    model does not fit is left out by name. Clients call
    :func:`~hsplit_flower.client.app.federated_train`.

    A subclass is a method's row with a name: its ``method``.

    Parameters
    ----------
    model
        ``llama-tiny`` (built in), a local folder or a hub id, or a `Model` that says more; clients
        load it by the same name, unless their node config has a ``model`` of its own.
    training
        How clients train. ``labels`` stay where they are, on the client.
    observer
        Is called with a report after every round of training.
    evaluation_observer
        Is called with a report after every evaluation by clients.
    groups
        The other settings of a run, each by its name: ``planning`` (of which cuts are not looked
        at), ``sampling``, ``client``, ``simulation``; ``link`` and ``worker`` are of no use.

    Raises
    ------
    ConfigError
        Naming every setting that is wrong, or that the method or the model does not have.
    """

    def __init__(
        self,
        model: str | Model,
        training: Training | None = None,
        *,
        observer: Observer | None = None,
        evaluation_observer: EvaluationObserver | None = None,
        **groups: Unpack[Groups],
    ) -> None:
        settings = self.method.settings(RunSettings.of(model, training, groups))
        sessions = NoSessions(model=settings.model.name, dtype=settings.model.dtype)
        super().__init__(
            settings,
            observer=observer,
            evaluation_observer=evaluation_observer,
            sessions=sessions,
        )
        self._shapes: dict[str, list[int]] = {}
        if not self.method.has_adapters:
            empty = build_empty(self._config).named_parameters()
            self._shapes = {name: list(parameter.shape) for name, parameter in empty}

    def _taken(self, node: int, part: ClientPlan, reply: Message) -> TrainReply:
        """What a client trained, if it fits the plan and the global adapter, or the base."""
        trained = read_reply(reply, is_training=True, has_adapters=self.method.has_adapters)
        check_steps(trained)
        if not self.method.has_adapters:
            check_weights(trained.weights, self._shapes)
            return trained
        check_side(trained, part.ranks, {weight.name for weight in self.architecture.weights})
        self.state.method.check(trained.updates)
        return trained

    def _taken_over(self, arrays: ArrayRecord) -> MethodState:
        if len(arrays) and not self.method.has_adapters:
            raise ConfigError(
                f"{self.method.title} trains the weights themselves, and cannot start from an "
                "adapter: merge it into the base with hsplit export --merge-into, and give that "
                "base as the model"
            )
        return super()._taken_over(arrays)
