"""How long a step takes whose micro-batches overlap: on the client, on the link, on the worker."""

from dataclasses import replace

from .seconds import PartSeconds


def pipelined(
    whole: PartSeconds, *, num_parts: int, in_flight: int, latency_seconds: float
) -> PartSeconds:
    """The step in micro-batches, of which several are under way at a time.

    What takes the longest (client, link or worker) is busy all the time but while the first
    micro-batch comes to it and the last one leaves it: ``b + (T - b - d) / m + d``, for ``T`` in
    all, ``b`` of it there, ``d`` of it latency, and ``m`` parts. With only ``k`` under way it is
    no less than ``m/k`` times what one of them takes.

    Parameters
    ----------
    whole
        The step in one piece.
    num_parts
        Micro-batches of a step, 1 or more.
    in_flight
        How many of them may be under way.
    latency_seconds
        What of the link's seconds is round trips, which a micro-batch takes as long for as a batch.

    Returns
    -------
    PartSeconds
        As the whole, and less time on the link: what overlaps is taken from there, and where that
        is not enough from the client's computing.
    """
    moving_seconds = max(0.0, whole.link_seconds - latency_seconds)
    busy = (whole.compute_seconds, moving_seconds, whole.worker_seconds)
    one_part = sum(busy) / num_parts + latency_seconds
    total = max(
        max(busy) + (sum(busy) - max(busy)) / num_parts + latency_seconds,
        num_parts * one_part / in_flight,
    )
    # The worker's computing is work that others wait for: it stays as it is.
    own = max(0.0, total - whole.worker_seconds)
    compute = min(whole.compute_seconds, own)
    return replace(whole, compute_seconds=compute, link_seconds=own - compute)
