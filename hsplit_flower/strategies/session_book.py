"""The sessions that a round has open on the split worker, by client."""

from dataclasses import replace
from logging import INFO, WARNING

from flwr.common.logger import log

from ..errors import ConfigError, HSplitError
from ..transport.factors import SessionResult
from ..types import SessionSpec, WorkerDescription
from ..worker.hosting import WorkerHandle, WorkerSettings, host_worker
from .training import Training


class SessionBook:
    """A split worker, and the tokens of its open sessions.

    Parameters
    ----------
    model
        What the worker must serve.
    worker
        Where one is started, or one that runs already; only a started one is stopped by us.
    """

    def __init__(self, model: str, worker: WorkerHandle | WorkerSettings | None) -> None:
        self._model = model
        self._settings = worker if isinstance(worker, WorkerSettings) else None
        self._worker = None if isinstance(worker, WorkerSettings) else worker
        self._is_ours = self._worker is None
        self._tokens: dict[int, str] = {}

    def __contains__(self, client: int) -> bool:
        return client in self._tokens

    @property
    def clients(self) -> list[int]:
        """Clients with an open session."""
        return list(self._tokens)

    @property
    def worker(self) -> WorkerHandle:
        """The running worker."""
        if self._worker is None:
            raise ConfigError("the split worker is not running: call start, which runs it")
        return self._worker

    def open_worker(
        self, training: Training, *, lowest_cut: int, num_blocks: int
    ) -> WorkerDescription:
        """Start the worker unless it runs, and see that it serves this model.

        Raises
        ------
        ConfigError
            If it serves another model, or not all blocks that are asked of it.
        """
        if self._worker is None:
            self._worker = host_worker(
                replace(
                    self._settings or WorkerSettings(model=self._model),
                    model=self._model,
                    revision=training.revision,
                    lowest_cut=lowest_cut,
                    dtype=training.dtype,
                    attention=training.attention,
                    max_message_bytes=training.max_message_bytes,
                )
            )
            log(INFO, "The split worker listens on %s", self._worker.address)
        there = self._worker.describe()
        if there.num_blocks != num_blocks or there.lowest_cut > lowest_cut:
            raise ConfigError(
                f"the split worker at {self._worker.address} serves blocks {there.lowest_cut} to "
                f"{there.num_blocks} of {there.model!r}; {lowest_cut} to {num_blocks} of "
                f"{self._model!r} are wanted"
            )
        if there.model != self._model:
            log(
                WARNING,
                "the split worker at %s has loaded %r, clients load %r: is it the same model?",
                self._worker.address,
                there.model,
                self._model,
            )
        return there

    def open(self, spec: SessionSpec) -> str:
        """Open a client's session and give its token."""
        token = self._tokens[spec.client] = self.worker.open(spec)
        return token

    def collect(self, client: int) -> SessionResult:
        """What a client's session has learnt."""
        return self.worker.collect(self._tokens[client])

    def steps(self) -> int:
        """How many steps all open sessions have done together."""
        return sum(self.worker.steps().values())

    def close_all(self) -> None:
        """End every session; one that cannot be reached times out by itself."""
        while self._tokens:
            client, token = self._tokens.popitem()
            try:
                self.worker.close(token)
            except HSplitError as error:
                log(WARNING, "the session of client %s could not be closed: %s", client, error)

    def close_worker(self) -> None:
        """End every session, and the worker if it is ours."""
        if self._worker is None:
            return
        self.close_all()
        if self._is_ours:
            self._worker.stop()
            self._worker = None
