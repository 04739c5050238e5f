"""Setting a client's round up: its lease, its budget, its half, and the stream to its session."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..adapters import LowRank, from_state_dict
from ..batches import Batch, checked
from ..devices import machine_profile
from ..devices.cards import is_rays_process
from ..devices.memory_budget import MemoryMeter, within_budget
from ..simulation.lease import leased
from ..splitting import Half, Parts, floating_dtype, half_bytes, load_half
from ..splitting.base_reading import digest_of_half
from ..transport.channel import ChannelSettings
from ..transport.grpc_stream import GrpcStream
from ..transport.security import PLAIN, Security
from ..types import DeviceProfile, Labels
from ..wire.base_text import base_from_text
from ..wire.instructions import Instructions
from ..wire.same_base import check_same_base
from .goes_on_top import OnTopOf
from .half_cache import HalfCache, HalfKey
from .instructions_check import check_half_fits, check_part, in_our_words
from .local_round import LocalRound
from .personal_adapter import PersonalAdapter
from .round_loop import Outcome, RoundLoop
from .step_log import OnStep
from .whole_round import AdapterRound, WeightRound

HALVES = HalfCache()
"""What this process keeps between messages."""

Batches = Iterable[Mapping[str, Any]]
Arrived = dict[str, Tensor]
TakeArrays = Callable[[MemoryMeter], Arrived]


@dataclass(frozen=True, kw_only=True)
class ClientPart:
    """What a client's round is made of: what it is told, and what it has.

    Attributes
    ----------
    instructions
        What the client is to do.
    batches
        The user's own.
    model
        What the client's half is loaded from.
    take_arrays
        Gives the message's global update, or all parameters, to hold alone, counted by the meter.
    granted_bytes
        What this device may give, whatever the instructions say.
    limit_bytes
        What its node config holds a round to, whatever the instructions say.
    security
        Of the channel to the worker, if there is one.
    on_step
        Is told of each step of training.
    own
        Where what is trained goes, and nowhere else, or what is evaluated has on top, if anything.
    """

    instructions: Instructions
    batches: Batches
    model: str
    take_arrays: TakeArrays
    granted_bytes: float = math.inf
    limit_bytes: float = math.inf
    security: Security = PLAIN
    on_step: OnStep | None = None
    own: PersonalAdapter | None = None

    @property
    def budget_bytes(self) -> float:
        """What the round may hold; 0 where nobody has set a limit."""
        budget_bytes = min(self.instructions.budget_bytes or math.inf, self.limit_bytes)
        return budget_bytes if budget_bytes < math.inf else 0.0


def run_round(part: ClientPart) -> Outcome:
    """A round inside its lease of a card, if it has one, and inside its memory budget.

    Raises
    ------
    HSplitError
        If this client cannot do its part.
    """
    started = time.perf_counter()
    instructions = part.instructions
    with ExitStack() as stack:
        device = stack.enter_context(_leased(instructions))
        key = _half_of(instructions, part.model, device)
        # Before it is measured what is held.
        HALVES.make_room(key, _capacity(part, device))
        meter = stack.enter_context(_metered(part, device))
        outcome = _run_half(part, key, meter)
        all_seconds = time.perf_counter() - started
        return replace(outcome, setup_seconds=max(0.0, all_seconds - outcome.seconds))


def _metered(part: ClientPart, device: str) -> AbstractContextManager[MemoryMeter]:
    """What holds the round to its budget."""
    predicted_bytes = part.instructions.predicted_bytes
    return within_budget(part.budget_bytes, predicted_bytes=predicted_bytes, device=device)


def _leased(instructions: Instructions) -> AbstractContextManager[str]:
    """The device to compute on, for as long as its lease lasts."""
    return leased(
        instructions.lease_gpu_fraction,
        card_bytes=instructions.lease_card_bytes,
        # Others may hold the cards for most of the round.
        timeout_seconds=instructions.session.round_timeout_seconds,
    )


def _half_of(instructions: Instructions, model: str, device: str) -> HalfKey:
    spec = instructions.session
    return HalfKey(
        model=model,
        parts=Parts.of_client(spec.cut, keeps_labels=spec.labels is Labels.CLIENT),
        revision=instructions.model.revision or None,
        dtype=floating_dtype(instructions.model.computes_in),
        quantised=instructions.model.quantised,
        device=device,
        attention=instructions.model.attention or None,
    )


def _capacity(part: ClientPart, device: str) -> int:
    """How many halves this process keeps, the instructions's own among them."""
    instructions = part.instructions
    if instructions.lease_gpu_fraction:
        # What lies on a leased card goes with the lease.
        return 0
    # A budget is for one half: others would count against it, but not where a virtual client's own
    # tensors are all that is counted.
    is_virtual = device == "cpu" and is_rays_process()
    if part.budget_bytes and not is_virtual:
        return min(instructions.cached_halves, 1)
    return instructions.cached_halves


def _run_half(part: ClientPart, key: HalfKey, meter: MemoryMeter) -> Outcome:
    instructions, spec, own = part.instructions, part.instructions.session, part.own
    on_top_of: OnTopOf | None = None
    with ExitStack() as stack:
        loan = stack.enter_context(
            HALVES.lend(
                key,
                partial(_load, key, instructions.base, part.granted_bytes),
                capacity=_capacity(part, key.device),
            )
        )
        half = loan.half
        check_part(spec, half.architecture, half.parts.span, part.granted_bytes)
        half.checkpointing = instructions.checkpointing
        meter.adopt([*half.model.parameters(), *half.model.buffers()])
        local_round: RoundLoop
        if instructions.whole.is_whole:
            with in_our_words(key.model), meter.setting_up():
                local_round = _whole_round(instructions, half, part.take_arrays(meter), meter)
        else:
            stream = stack.enter_context(closing(_connect(instructions, part.security)))
            with in_our_words(key.model), meter.setting_up():
                updates = from_state_dict(part.take_arrays(meter))
                if own is not None:
                    # Noted as it came: the round takes it over, and comes after it.
                    on_top_of = _noted(updates, half, after=instructions.server_round - 1)
                    updates = updates if spec.train else own.checked_and_added_to(updates)
                size, limit = instructions.micro_batch_size, instructions.link.max_message_bytes
                local_round = LocalRound(half, updates, spec, stream, meter, size, limit)
        ready: Iterable[Batch] = checked(
            part.batches, half.architecture, is_training=spec.train, max_tokens=spec.max_tokens
        )
        if spec.train:
            outcome = local_round.train(ready, probe=instructions.probe, on_step=part.on_step)
        else:
            outcome = local_round.evaluate(ready)
        loan.is_as_loaded = local_round.release_half()
        if own is None or on_top_of is None or not spec.train:
            return outcome
        is_transposed = half.architecture.is_transposed
        own.write(outcome.updates, key, is_transposed=is_transposed, on_top_of=on_top_of)
        return replace(outcome, updates={})


def _noted(updates: Mapping[str, LowRank], half: Half, *, after: int) -> OnTopOf:
    weights = half.architecture.weights_in(half.parts.span)
    return OnTopOf.of(updates, (one.name for one in weights), server_round=after)


def _whole_round(
    instructions: Instructions, half: Half, arrived: Arrived, meter: MemoryMeter
) -> RoundLoop:
    spec, training = instructions.session, instructions.whole
    if training.trains_weights:
        return WeightRound(half, arrived, spec, meter)
    updates = from_state_dict(arrived)
    # Each is let go when its weight has it.
    arrived.clear()
    return AdapterRound(half, updates, spec, training, meter)


def _load(key: HalfKey, base: str, granted_bytes: float) -> Half:
    """The half, if it is of the base that the run has.

    A client may have had nothing of it when it was asked: what it has loaded is on its disk.
    """
    with in_our_words(key.model):
        # Before any of it is read.
        check_half_fits(
            half_bytes(
                key.model,
                key.parts,
                revision=key.revision,
                dtype=key.dtype,
                quantised=key.quantised,
            ),
            granted_bytes,
        )
        half = load_half(
            key.model,
            key.parts,
            revision=key.revision,
            dtype=key.dtype,
            device=key.device,
            attention=key.attention,
            quantised=key.quantised,
        )
        wanted = base_from_text(base)
    if wanted.tensors:
        check_same_base(digest_of_half(half), wanted, whose="the run")
    return half


def _connect(instructions: Instructions, security: Security) -> GrpcStream:
    spec = instructions.session
    settings = replace(
        ChannelSettings.of(instructions.link),
        first_patience_seconds=instructions.first_patience_seconds,
    )
    return GrpcStream(
        instructions.address,
        instructions.token,
        spec.wire_type,
        settings,
        spec.wire_gradient_type,
        security,
    )


def machine_without_cache(dtype: str) -> DeviceProfile:
    """The machine's profile, with the memory of cached halves counted as free.

    A cached half that does not fit beside a planned one is dropped before that is loaded.
    """
    profile = machine_profile(dtype=floating_dtype(dtype))
    kept_bytes = HALVES.held_bytes("cuda" if torch.cuda.is_available() else "cpu")
    return replace(profile, memory_bytes=profile.memory_bytes + kept_bytes)
