"""Any method over a split worker as a Flower strategy."""

from flwr.app import Message
from typing_extensions import Unpack

from ..settings import Groups, Model, RunSettings, Training
from ..types import ClientPlan
from ..worker.handle import WorkerHandle
from .federated_strategy import FederatedStrategy
from .replies import TrainReply, check_side, join_halves, read_reply
from .round_report import EvaluationObserver, Observer
from .worker_sessions import WorkerSessions


class SplitStrategy(FederatedStrategy):
    """Rounds in which each client runs the first blocks of the model, and a worker the others.

    A subclass is a method's row with a name: its ``method``.

    Parameters
    ----------
    model
        ``llama-tiny`` (built in), a local folder or a hub id, or a `Model` that says more; clients
        load their half by the same name, unless their node config has a ``model`` of its own.
    training
        How clients train.
    observer
        Is called with a report after every round of training.
    evaluation_observer
        Is called with a report after every evaluation by clients.
    running_worker
        A split worker that runs already, in this process or another; None starts what the settings
        ask for.
    groups
        The other settings of a run, each by its name: ``planning``, ``aggregation``, ``link``,
        ``worker``, ``sampling``, ``client``, ``simulation``.

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
        running_worker: WorkerHandle | None = None,
        **groups: Unpack[Groups],
    ) -> None:
        settings = self.method.settings(RunSettings.of(model, training, groups))
        self._workers = WorkerSessions(settings, running_worker)
        super().__init__(
            settings,
            observer=observer,
            evaluation_observer=evaluation_observer,
            sessions=self._workers,
            look=self._workers.work_done,
        )

    def _taken(self, node: int, part: ClientPlan, reply: Message) -> TrainReply:
        """Both halves of what a client trained, if they fit each other and the global adapter."""
        names = {weight.name for weight in self.architecture.weights_in(part.span)}
        below = read_reply(reply, is_training=True)
        check_side(below, part.ranks, names)
        joined = join_halves(below, self._workers.collect(node))
        self.state.method.check(joined.updates)
        return joined
