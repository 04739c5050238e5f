"""Why each client has the cut that it has: what keeps it from a deeper one."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..costs.seconds import link_seconds
from ..sizes import size_text
from ..types import Binding, DeviceProfile
from .choices import CutChoices
from .cuts import ClientOptions, makespan


@dataclass(frozen=True, kw_only=True)
class CutLimit:
    """What binds one client's cut, and the same in words."""

    binds: Binding
    why: str


def cut_limits(
    choices: CutChoices,
    cuts: Mapping[int, int],
    profiles: Mapping[int, DeviceProfile],
    worker: DeviceProfile,
) -> dict[int, CutLimit]:
    """What keeps each client's cut from being deeper.

    Parameters
    ----------
    choices
        The cuts that clients may have.
    cuts, profiles
        What was chosen, and for which devices, by client.
    worker
        The split worker.
    """
    if not cuts:
        return {}
    options = {client: choices.options(profiles[client]) for client in cuts}
    seconds = makespan(cuts, options, choices.worker_options(worker))
    return {
        client: _limit(choices, cut, options[client], profiles[client], seconds)
        for client, cut in cuts.items()
    }


def _limit(
    choices: CutChoices,
    cut: int,
    options: ClientOptions,
    profile: DeviceProfile,
    round_seconds: float,
) -> CutLimit:
    if not choices.costs.has_cut:
        return CutLimit(binds="method", why="the method has the whole model on each client")
    if cut >= choices.max_cut:
        return CutLimit(
            binds="worker", why="the deepest that is allowed: the worker has the least to do"
        )
    deeper, has = cut + 1, size_text(profile.memory_bytes)
    if cut >= options.deepest:
        needed = size_text(choices.needed_bytes(deeper))
        why = f"cut {deeper} takes {needed} with the lowest ranks, it has {has}"
        return CutLimit(binds="memory", why=why)
    if choices.settings.one_cut:
        return CutLimit(binds="method", why="the method has one cut for all clients")
    own_seconds = options.seconds[deeper]
    if own_seconds > round_seconds:
        link = link_seconds(choices.costs, profile=profile, labels=choices.settings.labels)
        is_link = link > own_seconds - link
        why = (
            f"with cut {deeper} its step would take {own_seconds:.3g} s, {link:.3g} s of them on "
            f"its link, and the round's takes {round_seconds:.3g} s"
        )
        return CutLimit(binds="link" if is_link else "client", why=why)
    needed = size_text(choices.roomy_bytes(deeper, profile))
    why = f"cut {deeper} takes {needed} with the highest ranks, it has {has}"
    return CutLimit(binds="memory", why=why)
