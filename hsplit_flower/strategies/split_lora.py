"""SplitLoRA: one cut and one rank for all, the plain mean of factors.

Lin et al., SplitLoRA, arXiv 2407.00952. Clients' factors are averaged as they are, A and B apart;
the server has one adapter, which every client's steps move in turn.
"""

from typing_extensions import Unpack

from ..methods import SPLIT_LORA
from ..server.split_strategy import Observer, SplitStrategy
from ..settings import Groups, Model, RunSettings, Training
from ..worker.handle import WorkerHandle


class SplitLoRA(SplitStrategy):
    """Fine-tune one language model across clients that all have the same part of it.

    The parameters are those of `HSplitLoRA`. The cut is at most what the weakest client holds; so
    is the rank, and at most ``planning.max_rank``.
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
            SPLIT_LORA,
            RunSettings.of(model, training, groups),
            observer=observer,
            running_worker=running_worker,
        )
