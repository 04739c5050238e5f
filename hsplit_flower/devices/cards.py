"""The cards that Ray has: whether there are any, and whether they are real.

A card is real where Ray has found one of a kind that it knows. Virtual ones are only said to be
there (``init-args-num-gpus``), so that leases are the same on a machine without a card.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import NoCardError
from ..sizes import size_text

CARD_KINDS = "accelerator_type:"
# How a simulation gets a virtual card, in words.
VIRTUAL_CARDS = (
    "start Ray with cards, virtual ones where there are none "
    "(flwr run --federation-config 'init-args-num-gpus=1')"
)
AWAITING_SECONDS, LOOK_SECONDS = 180.0, 0.1


def are_real(resources: Mapping[str, float]) -> bool:
    """Whether a node's cards are there, and not only said to be."""
    return any(name.startswith(CARD_KINDS) for name in resources)


def is_rays_process() -> bool:
    """Whether this is a process of Ray's, as a simulated client's is; Ray is not loaded for it."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def await_ray() -> bool:
    """Wait for the Ray that Flower's simulation starts in this process; whether it came in time."""
    import ray

    deadline = time.monotonic() + AWAITING_SECONDS
    while not ray.is_initialized():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def nodes() -> list[dict[str, Any]]:
    """The nodes of the Ray that this process is connected to."""
    import ray

    return list(ray.nodes())  # type: ignore[no-untyped-call]


def check_cluster(nodes: Sequence[Mapping[str, Any]]) -> None:
    """See that parts of a card can be leased on some node.

    Raises
    ------
    NoCardError
        If no node that lives has a card.
    """
    if not any(node["Alive"] and node["Resources"].get("GPU", 0.0) >= 1.0 for node in nodes):
        raise NoCardError(f"clients are to lease parts of cards, and Ray has none: {VIRTUAL_CARDS}")


def check_node(resources: Mapping[str, float], fraction: float) -> None:
    """See that this part of a card can be leased on a node, and that torch sees its cards.

    Raises
    ------
    NoCardError
        If it cannot ever be leased, or would be leased for a CPU.
    """
    if resources.get("GPU", 0.0) < fraction:
        raise NoCardError(
            f"{fraction:g} of a card is to be leased, Ray has {resources.get('GPU', 0.0):g} here: "
            f"{VIRTUAL_CARDS}"
        )
    if are_real(resources) and not torch.cuda.is_available():
        raise NoCardError(
            "Ray has a real card here, and torch sees none: set "
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 in the environment of the SuperLink before it "
            "is started, else Ray hides cards from clients that lease them; or install a torch "
            "that is built for the card"
        )


def check_card(number: int, card_bytes: float) -> None:
    """See that a card has the memory of which parts are leased.

    Parameters
    ----------
    number
        Of the card, as torch counts them.
    card_bytes
        What its clients share; 0 for whatever it has.

    Raises
    ------
    NoCardError
        If it has less.
    """
    whole_bytes = torch.cuda.get_device_properties(number).total_memory
    if card_bytes > whole_bytes:
        raise NoCardError(
            f"parts of {size_text(card_bytes)} are leased, and card {number} has "
            f"{size_text(whole_bytes)}: give lease-card-gb (lease_card_bytes) as what clients may "
            "share of each card, less than it has where a worker or the server's evaluation is on "
            "it, too"
        )


def number_in_torch(name: str) -> int:
    """The number under which this process's torch has a card that Ray calls by this name.

    Ray says which card of the machine it is, torch counts those that it is shown.
    """
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return shown.split(",").index(name) if shown else int(name)
