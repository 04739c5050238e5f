"""HSplitLoRA: unequal cuts and ranks by importance, exact aggregation.

Lin et al., HSplitLoRA, arXiv 2505.02795. Each client trains adapters on the blocks below its own
cut, its session on the split worker those above; ARMSC chooses cuts and ranks from device profiles
and importance, NAA aggregates exactly.
"""

from typing_extensions import Unpack

from ..methods import HSPLIT_LORA
from ..server.split_strategy import Observer, SplitStrategy
from ..settings import Groups, Model, RunSettings, Training
from ..worker.handle import WorkerHandle


class HSplitLoRA(SplitStrategy):
    """Fine-tune one language model across unequal clients, none of which holds it whole.

    Parameters
    ----------
    model
        ``llama-tiny`` (built in), a local folder or a hub id, or a `Model` that says more; clients
        load their half by the same name, unless their node config has a ``model`` of its own.
    training
        How clients train.
    observer
        Is called with a report after every round of training.
    running_worker
        A split worker that runs already; by default one is started as ``worker`` says.
    groups
        The other settings of a run, each by its name: ``planning``, ``aggregation``, ``link``,
        ``worker``, ``sampling``, ``client``, ``simulation``.

    Raises
    ------
    ConfigError
        Naming every setting that is wrong, or does not fit the model.
    """

    def __init__(
        self,
        model: str | Model,
        training: Training | None = None,
        *,
        observer: Observer | None = None,
        running_worker: WorkerHandle | None = None,
        **groups: Unpack[Groups],
    ) -> None:
        super().__init__(
            HSPLIT_LORA,
            RunSettings.of(model, training, groups),
            observer=observer,
            running_worker=running_worker,
        )
