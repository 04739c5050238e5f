"""Whether clients get through to the split worker at all."""

from typing import final

from ..errors import WorkerUnavailableError
from ..names import listed
from ..settings import Worker
from .collection import TrainResults
from .round_steps import MOST_NAMES

LEAST_CLIENTS = 2
"""What one alone meets may be its own network's fault."""


@final
class Reach:
    """Who has reached the worker since the run was started; nobody's failure ends it after that.

    Parameters
    ----------
    worker
        How clients come to its address.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._was_reached = False
        self._failed: set[int] = set()

    def check(self, results: TrainResults, *, num_nodes: int) -> None:
        """See that another round of training can be better than this one.

        Parameters
        ----------
        results
            Of the round; of each client that was dropped, what its worker has had of it.
        num_nodes
            That are connected.

        Raises
        ------
        WorkerUnavailableError
            If several clients did not reach the worker so far, or the only one that there is, and
            nobody did.
        """
        reports = results.reports
        traffic = [report.traffic for report in reports.values()]
        self._was_reached |= any(each is None or each.up_bytes for each in traffic)
        self._failed |= results.unreached.keys()
        if self._was_reached or len(self._failed) < min(LEAST_CLIENTS, max(1, num_nodes)):
            return
        if not results.unreached:
            return
        names = {reports[node].name: error for node, error in results.unreached.items()}
        addresses = {reports[node].worker for node in results.unreached}
        anyone = min(names)
        raise WorkerUnavailableError(
            f"no client has reached the split worker: {listed(names, MOST_NAMES)} were told that "
            f"it is at {', '.join(sorted(addresses))}. {anyone} says: {names[anyone]}. "
            f"{self._remedy()}"
        )

    def _remedy(self) -> str:
        worker = self._worker
        if worker.address:
            return (
                f"Set worker.address, which is {worker.address!r}, to a name or an address by "
                "which the clients reach the worker, too, and let them through to its port"
            )
        now = f"which is {worker.advertised_host!r}" if worker.advertised_host else "which is empty"
        port = (
            f"let them through to port {worker.port}"
            if worker.port
            else "set worker.port to one that they are let through to: 0 is another one in each run"
        )
        return (
            f"Set worker.advertised-host, {now}, to a name or an address by which the clients "
            f"reach the machine of the ServerApp, and {port}"
        )
