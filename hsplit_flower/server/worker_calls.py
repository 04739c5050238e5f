"""Several workers asked for something at a time."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from ..errors import HSplitError
from ..worker.handle import WorkerHandle

Call = Callable[[WorkerHandle], None]


def failures(
    calls: Mapping[int, Call], workers: Mapping[int, WorkerHandle]
) -> dict[int, HSplitError]:
    """What went wrong with each call, by the number of its worker; one alone needs no thread."""
    if len(calls) == 1:
        told = [(number, _failure(call, workers[number])) for number, call in calls.items()]
    else:
        with ThreadPoolExecutor(max_workers=max(1, len(calls))) as threads:
            futures = {n: threads.submit(_failure, call, workers[n]) for n, call in calls.items()}
        told = [(number, future.result()) for number, future in futures.items()]
    return {number: error for number, error in told if error is not None}


def _failure(call: Call, worker: WorkerHandle) -> HSplitError | None:
    try:
        call(worker)
    except HSplitError as error:
        return error
    return None
