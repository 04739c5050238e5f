"""Whether a request fits the model, its session and its turn: looked at before anything runs.

What is refused here changes nothing, so that a session's mistake is its own, and the batch that its
request would have joined runs without it.
"""

from collections.abc import Iterable

from torch import Tensor

from ..errors import AdapterError, CodecError, NonFiniteError, WorkerRejectedError
from ..metrics import label_targets
from ..settings import SessionSpec
from ..settings.link import GRANT_MORE
from ..splitting import Architecture
from ..types import IGNORED_LABEL, Labels
from ..wire.messages import Backward, Forward, Request, Settle
from ..wire.next_tokens import Extend
from .session import Session
from .writing_admission import check_extend

MAX_MICRO_BATCHES = 2**10

# The widest that hidden states, scales, labels, masks and positions of a token may be on the wire,
# and what a message has besides them.
VALUE_BYTES, TOKEN_BYTES, FRAME_BYTES = 4, 4 + 8 + 8 + 8, 4096


def check_message(num_bytes: int, spec: SessionSpec, architecture: Architecture) -> None:
    """Refuse a message that is larger than any request of its session can be.

    Raises
    ------
    CodecError
        If it has more bytes than ``max_tokens`` tokens take in the widest form.
    """
    token_bytes = VALUE_BYTES * architecture.hidden_size + TOKEN_BYTES
    most_bytes = spec.max_tokens * token_bytes + FRAME_BYTES
    if num_bytes > most_bytes:
        raise CodecError(
            f"a message of {num_bytes} bytes: the session was opened for {spec.max_tokens} tokens "
            f"at a time, which take {most_bytes} bytes at most; send smaller batches"
        )


def check_shape(shape: tuple[int, ...], spec: SessionSpec, architecture: Architecture) -> None:
    """Refuse hidden states, or their gradients, that are not what the session was opened for.

    Raises
    ------
    CodecError
        If they are not as wide as the model, or of more positions or tokens than allowed.
    """
    batch, seq, width = shape
    if width != architecture.hidden_size:
        raise CodecError(f"hidden states of width {width}: {architecture.hidden_size} is wanted")
    if not architecture.has_positions(seq):
        raise CodecError(
            f"a sequence of {seq}: the model has {architecture.max_positions} positions"
        )
    if batch * seq > spec.max_tokens:
        raise CodecError(
            f"{batch * seq} tokens at a time: the session was opened for {spec.max_tokens}, as the "
            "run was planned; send smaller batches, or plan for larger ones"
        )


def check_content(request: Request, spec: SessionSpec, architecture: Architecture) -> None:
    """Refuse a request that does not fit the model or what its session was opened for.

    Whatever came before it: this may be asked before it is the request's turn.

    Raises
    ------
    CodecError
        If its shape, its labels or its settings are not what was agreed on.
    NonFiniteError
        If its hidden state is not finite.
    """
    if isinstance(request, Extend) != spec.writes:
        raise CodecError(f"{type(request).__name__} in a session that was opened to {spec.purpose}")
    if isinstance(request, Forward):
        _check_forward(request, spec, architecture)
    if isinstance(request, Extend):
        check_shape(tuple(request.hidden.shape), spec, architecture)
        _check_finite(request.hidden)
        check_extend(request, architecture)


def check_names(names: Iterable[str], architecture: Architecture) -> None:
    """Refuse weights that are not the model's.

    Raises
    ------
    AdapterError
        Naming the first three of them.
    """
    known = {weight.name for weight in architecture.weights}
    if unknown := sorted(set(names) - known):
        raise AdapterError(f"the model has no weights {unknown[:3]}")


def check_ranks(spec: SessionSpec, architecture: Architecture) -> None:
    """Refuse ranks that the model's weights cannot have.

    Raises
    ------
    AdapterError
        If a weight is not the model's, or a rank is above the larger side of its weight.
    """
    check_names(spec.ranks, architecture)
    highest = {w.name: max(w.in_features, w.out_features) for w in architecture.weights}
    for name, rank in spec.ranks.items():
        if rank > highest[name]:
            raise AdapterError(f"rank {rank} for {name!r}: at most {highest[name]} is possible")


def check_can_share(spec: SessionSpec) -> None:
    """Refuse a session that cannot step an adapter in turns with others.

    Raises
    ------
    AdapterError
        If its labels stay on the client, or its gradients are clipped: its graph, or its step,
        would wait while others change the factors.
    """
    if spec.max_gradient_norm:
        raise AdapterError(
            "sessions share an adapter only where no step waits for the client's norm: "
            "max_gradient_norm = 0 is wanted"
        )
    if spec.labels is Labels.CLIENT:
        raise AdapterError(
            "sessions share an adapter only where the worker computes the loss: labels on the "
            "server are wanted"
        )


def check_alike(spec: SessionSpec, other: SessionSpec) -> None:
    """Refuse a session that is to share the adapter of one that is not like it.

    Raises
    ------
    AdapterError
        Naming what is different.
    """
    own = {"client", "client_name", "dropout_seed", "num_steps", "round_timeout_seconds"}
    differing = [
        name
        for name, value in spec.given().items()
        if name not in own and value != getattr(other, name)
    ]
    if differing:
        raise AdapterError(
            f"sessions that share an adapter must be alike, and differ in {', '.join(differing)}"
        )


def check_turn(request: Request, session: Session) -> None:
    """Refuse a request that is not the next one of its session.

    Raises
    ------
    CodecError
        If it does not go with the micro-batches before it.
    WorkerRejectedError
        If it is out of turn.
    """
    if isinstance(request, Settle):
        _check_settle(request, session)
        return
    if request.step != session.num_steps + 1:
        raise WorkerRejectedError(
            f"step {request.step} is out of turn: step {session.num_steps + 1} is next"
        )
    if isinstance(request, Backward):
        _check_backward(request, session)
    elif isinstance(request, Forward):
        _check_micro_batch(request, session)


def _check_settle(request: Settle, session: Session) -> None:
    if session.unsettled is None or request.step != session.num_steps:
        raise WorkerRejectedError(
            f"step {request.step} does not wait for the norm of the client's gradients"
        )


def _check_backward(request: Backward, session: Session) -> None:
    progress = session.progress
    flight = None if progress is None else progress.waiting.get(request.micro_batch)
    if progress is None or flight is None:
        raise WorkerRejectedError(
            f"no forward pass of step {request.step}, micro-batch {request.micro_batch}, "
            "waits for a gradient"
        )
    if request.num_micro_batches != progress.num_micro_batches:
        raise CodecError(
            f"a step of {request.num_micro_batches} micro-batches: "
            f"it began as one of {progress.num_micro_batches}"
        )
    if request.gradient.shape != flight.last.shape:
        raise CodecError(
            f"a gradient of shape {list(request.gradient.shape)}: "
            f"{list(flight.last.shape)} is wanted, that of the last hidden state"
        )


def _check_micro_batch(request: Forward, session: Session) -> None:
    progress = session.progress
    if session.spec.shares_adapters and request.num_micro_batches != 1:
        raise CodecError(
            "a step of several micro-batches, on an adapter that other sessions step too: whole "
            "batches are wanted"
        )
    if not 1 <= request.num_micro_batches <= MAX_MICRO_BATCHES:
        raise CodecError(
            f"a step of {request.num_micro_batches} micro-batches: "
            f"1 to {MAX_MICRO_BATCHES} are allowed"
        )
    following = 0 if progress is None else progress.num_started
    if request.micro_batch != following or following == request.num_micro_batches:
        raise WorkerRejectedError(
            f"micro-batch {request.micro_batch} of step {request.step} is out of turn: "
            f"{following} of {request.num_micro_batches} is next"
        )
    if progress is not None:
        began = (progress.num_micro_batches, progress.total_tokens, progress.train)
        if (request.num_micro_batches, request.total_tokens, request.train) != began:
            raise CodecError(
                "the micro-batches of a step must agree on their number, on the step's tokens, and "
                "on whether they train"
            )
        granted, num_graphs = session.spec.max_unanswered, len(progress.waiting)
        if num_graphs >= granted:
            raise WorkerRejectedError(
                f"{num_graphs} micro-batches wait for their gradients, {granted} were granted: "
                f"send gradients first, or {GRANT_MORE}"
            )


def _check_forward(request: Forward, spec: SessionSpec, architecture: Architecture) -> None:
    if request.micro_batch and request.probe:
        raise CodecError("importance is scored on a step's first micro-batch: it does not add up")
    check_shape(tuple(request.hidden.shape), spec, architecture)
    most_targets = MAX_MICRO_BATCHES * spec.max_tokens
    if request.total_tokens > most_targets:
        raise CodecError(
            f"{request.total_tokens} target tokens in the step: at most {most_targets} are allowed"
        )
    if request.train and not spec.train:
        raise CodecError("a training step in a session that was opened for evaluation")
    if (request.labels is None) != (spec.labels is Labels.CLIENT):
        raise CodecError(
            f"labels are {'absent' if request.labels is None else 'sent'}, "
            f"the session was opened with labels on the {spec.labels.value}"
        )
    if request.labels is not None:
        _check_labels(request, request.labels, architecture.vocabulary_size)
    if request.position_ids is not None:
        _check_positions(request.position_ids, architecture)
    _check_finite(request.hidden)


def _check_finite(hidden: Tensor) -> None:
    if not bool(hidden.isfinite().all()):
        raise NonFiniteError("the hidden state is not finite")


def _check_positions(positions: Tensor, architecture: Architecture) -> None:
    if "position_ids" not in architecture.inputs:
        raise CodecError("positions are sent, and the model takes none")
    lowest, highest = int(positions.min()), int(positions.max())
    if lowest < 0 or not architecture.has_positions(highest + 1):
        raise CodecError(
            f"positions of {lowest} to {highest}: the model has {architecture.max_positions}"
        )


def _check_labels(request: Forward, labels: Tensor, size: int) -> None:
    targets = label_targets(labels)
    if bool(((targets < 0) | (targets >= size)).any()):
        raise CodecError(f"labels must be {IGNORED_LABEL} or in [0, {size})")
    if not request.train:
        return
    if request.num_micro_batches > 1 and request.total_tokens == 0:
        raise CodecError(
            "a step of several micro-batches must say how many target tokens it has in all"
        )
    if request.total_tokens == 0 and targets.numel() == 0:
        raise CodecError("a step without a single target token cannot be trained on")
    if request.total_tokens != 0 and request.total_tokens < targets.numel():
        raise CodecError(
            f"{request.total_tokens} target tokens in the step, "
            f"but {targets.numel()} in this part of it"
        )
