"""Starting the split workers of a run, or finding the one that runs, and seeing what they serve."""

from collections.abc import Sequence
from dataclasses import replace
from logging import WARNING

from flwr.common.logger import log

from ..errors import ConfigError
from ..settings import OPERATOR_TOKEN_VARIABLE, RunSettings
from ..transport.channel import ChannelSettings
from ..transport.remote_worker import RemoteWorker
from ..transport.security import Security
from ..types import WorkerDescription
from ..worker.group import SingleWorker, WorkerGroup
from ..worker.hosting import host_worker
from ..worker.pool import WorkerPool

CONTROL_SECONDS = 300.0
"""How long a worker that runs elsewhere is tried before a run gives it up."""


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
        if not worker.operator_token:
            raise ConfigError(
                f"worker.address = {worker.address!r}: the token of that worker's operator is "
                f"wanted in {OPERATOR_TOKEN_VARIABLE}, in the environment that the SuperLink was "
                "started in; set it there and start the SuperLink again"
            )
        channel = replace(
            ChannelSettings.of(link),
            patience_seconds=CONTROL_SECONDS
            if link.patience_seconds is None
            else link.patience_seconds,
        )
        security = Security.towards(worker)
        return SingleWorker(RemoteWorker(worker.address, worker.operator_token, channel, security))
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


def check_serves(
    there: WorkerDescription,
    settings: RunSettings,
    *,
    num_blocks: int,
    addresses: Sequence[str],
) -> None:
    """See that workers serve what a run wants of them.

    Parameters
    ----------
    there
        What they say of themselves.
    settings, num_blocks
        Of the run, and of its model.
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
    if there.dtype != model.dtype:
        raise ConfigError(
            f"the split worker at {where} computes in {there.dtype}, {model.dtype} is wanted: "
            "start it with that dtype, or train with its"
        )
    if there.model != model.name:
        log(
            WARNING,
            "the split worker at %s has loaded %r, clients load %r: is it the same model?",
            where,
            there.model,
            model.name,
        )
