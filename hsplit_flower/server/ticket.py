"""What lets a client in to its session."""

from dataclasses import dataclass, field
from logging import WARNING

from flwr.common.logger import log

from ..errors import HSplitError
from ..settings import Trust
from ..worker.handle import WorkerHandle


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Where a client's session is, what opens it, and what the client is called."""

    client: str = ""
    worker: int
    address: str
    token: str = field(repr=False)
    trust: Trust

    def close_on(self, worker: WorkerHandle) -> HSplitError | None:
        """End the session on its worker; what is in the way of it is logged, and given."""
        try:
            worker.close(self.token)
        except HSplitError as error:
            log(WARNING, "the session of client %s could not be closed: %s", self.client, error)
            return error
        return None
