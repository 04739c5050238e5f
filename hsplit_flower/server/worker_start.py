"""Starting the split workers of a run, or finding the one that runs, and seeing what they serve."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ..errors import ConfigError
from ..settings import Link, RunSettings, Worker
from ..splitting.quantisation import numbers_text
from ..transport.channel import ChannelSettings
from ..transport.operator_token import token_towards
from ..transport.remote_worker import RemoteWorker
from ..transport.security import Security
from ..types import WorkerDescription
from ..worker.group import SingleWorker, WorkerGroup
from ..worker.hosting import host_worker
from ..worker.pool import WorkerPool

CONTROL_SECONDS = 300.0
"""How long a worker that runs elsewhere is tried before a run gives it up."""
FIRST_SECONDS = 10.0
"""How long a run that begins waits for it: a wrong address is to be found soon."""


def started_group(settings: RunSettings, *, awaits_ray: bool) -> WorkerGroup:
    """The workers that the settings ask for: in this process, on Ray, or one that runs already.

    Parameters
    ----------
    settings
        Of the run.
    awaits_ray
        Whether something else in this process is starting Ray.

    Raises
    ------
    ConfigError
        If they cannot be started like this, a certificate file cannot be used, or the token of one
        that runs is not known.
    WorkerUnavailableError
        If Ray or a worker on it cannot be reached.
    """
    worker, link = settings.worker, settings.link
    if worker.address:
        return SingleWorker(_running_worker(worker, link))
    lowest_cut = settings.planning.min_cut
    if worker.placement == "ray":
        pool = WorkerPool(
            settings.model, worker, lowest_cut=lowest_cut, link=link, awaits_ray=awaits_ray
        )
        pool.start()
        return pool
    return SingleWorker(
        host_worker(
            settings.model,
            worker,
            lowest_cut=lowest_cut,
            max_message_bytes=link.max_message_bytes,
        )
    )


def _running_worker(worker: Worker, link: Link) -> RemoteWorker:
    """The worker at an address. A run that has begun waits longer for it than one that begins."""
    said = link.patience_seconds
    channel = replace(
        ChannelSettings.of(link), patience_seconds=CONTROL_SECONDS if said is None else said
    )
    return RemoteWorker(
        worker.address,
        token_towards(worker),
        channel,
        Security.towards(worker),
        newer_security=partial(Security.towards, worker),
        waiting_seconds=max(FIRST_SECONDS, said or 0.0),
    )


def check_serves(
    there: WorkerDescription,
    settings: RunSettings,
    *,
    num_blocks: int,
    quantised: str = "",
    addresses: Sequence[str],
) -> None:
    """See that workers serve what a run wants of them.

    Parameters
    ----------
    there
        What they say of themselves.
    settings, num_blocks
        Of the run, and of its model.
    quantised
        What the model's matrices are quantised to, by the settings or in its files.
    addresses
        Where they are, to be told.

    Raises
    ------
    ConfigError
        If they serve another model, or not all blocks that are asked of them, or in another dtype.
    """
    model, lowest_cut, where = settings.model, settings.planning.min_cut, ", ".join(addresses)
    if there.num_blocks != num_blocks or there.lowest_cut > lowest_cut:
        raise ConfigError(
            f"the split worker at {where} serves blocks {there.lowest_cut} to {there.num_blocks} "
            f"of {there.model!r}; {lowest_cut} to {num_blocks} of {model.name!r} are wanted"
        )
    wanted = numbers_text(model.computes_in, quantised)
    if there.dtype != wanted:
        raise ConfigError(
            f"the split worker at {where} computes in {there.dtype}, {wanted} is wanted: "
            "start it with that dtype, or train with its"
        )
