"""Whether what is asked of a session that writes fits the model, the session, and the worker."""

from ..errors import CodecError, WorkerRejectedError
from ..settings import SessionSpec
from ..sizes import size_text
from ..splitting import Architecture
from ..wire.next_tokens import Extend
from .writing_session import Kept, WritingSession

CHOICE_BYTES = 12
"""Of a token that may follow: its logit and its number."""
MEMORY_SHARE = 0.5
"""For all that texts keep, of what the base leaves of the device's memory."""
MOST_SESSIONS = 1024
"""That write, at a time: whoever has the writers' token may open them."""


def check_bounds(spec: SessionSpec) -> None:
    """Refuse a session that writes and may have more on the worker than what is counted of it.

    Whoever has the writers' token says what its session is opened with, and only what it keeps is
    held against the worker's memory: a request that waits may be as large as that, and one may
    wait.

    Raises
    ------
    WorkerRejectedError
        Naming what is too much.
    """
    if spec.in_flight != 1:
        raise WorkerRejectedError(
            f"in_flight is {spec.in_flight} in a session that writes: 1 is wanted, as each token "
            "follows from the one before"
        )
    if spec.max_tokens > spec.kept_tokens:
        raise WorkerRejectedError(
            f"max_tokens is {spec.max_tokens} in a session that writes and keeps "
            f"{spec.kept_tokens} tokens: {spec.kept_tokens} or fewer are wanted in a request"
        )


def check_extend(request: Extend, architecture: Architecture) -> None:
    """Refuse a request that no text could go on with, whatever came before it.

    Its hidden state has been looked at.

    Raises
    ------
    CodecError
        Saying what is wrong with it.
    """
    if not 1 <= request.num_choices <= architecture.vocabulary_size:
        raise CodecError(
            f"{request.num_choices} next tokens are asked for: 1 to "
            f"{architecture.vocabulary_size} are wanted"
        )
    if request.attention_mask is None:
        return
    if not request.begins:
        raise CodecError("a mask comes with the first tokens of a text only")
    falls = request.attention_mask[:, 1:] < request.attention_mask[:, :-1]
    if bool(falls.any()) or not bool(request.attention_mask[:, -1].all()):
        raise CodecError(
            "a mask of zeros on the left, then ones, is wanted: a text goes on at its end"
        )


def check_follows(request: Extend, session: WritingSession, architecture: Architecture) -> None:
    """Refuse a request that does not go on from what its session keeps.

    Raises
    ------
    CodecError
        If it has other rows, or more tokens than were granted or the model has positions for.
    WorkerRejectedError
        If nothing is kept that it could go on from.
    """
    rows, new = request.hidden.shape[:2]
    seen = 0
    if not request.begins:
        if session.kept is None:
            raise WorkerRejectedError("no text has begun in this session: begin one")
        seen = session.kept.num_positions
        _check_rows(request, session.kept)
    elif request.parents is not None:
        raise CodecError("a text that begins has no rows of before to go on with")
    if rows * (seen + new) > session.spec.kept_tokens:
        raise CodecError(
            f"{rows} rows of {seen + new} tokens: the session was opened to keep "
            f"{session.spec.kept_tokens} tokens in all; begin shorter texts, or fewer"
        )
    _check_reply(request, session)
    if not architecture.has_positions(seen + new):
        raise CodecError(
            f"a text of {seen + new} tokens: the model has {architecture.max_positions} positions"
        )


def _check_reply(request: Extend, session: WritingSession) -> None:
    rows, choices = request.hidden.shape[0], request.num_choices
    if rows > 1 and (wanted_bytes := rows * choices * CHOICE_BYTES) > session.reply_bytes:
        raise CodecError(
            f"{choices} next tokens of each of {rows} rows take {size_text(wanted_bytes)}: a reply "
            f"of this session may have {size_text(session.reply_bytes)}; ask for fewer next tokens "
            "(a lower top_k), fewer rows, or a session that keeps more tokens"
        )


def _check_rows(request: Extend, kept: Kept) -> None:
    rows = request.hidden.shape[0]
    if rows != kept.num_rows:
        raise CodecError(f"{rows} rows: the text that is kept has {kept.num_rows}")
    parents = request.parents
    if parents is not None and not bool(((parents >= 0) & (parents < rows)).all()):
        raise CodecError(f"rows to go on with must be in [0, {rows})")


def check_room(
    spec: SessionSpec,
    wanted_bytes: int,
    taken_bytes: int,
    memory_bytes: float,
    num_open: int = 0,
) -> None:
    """Refuse a session whose texts would take more than the worker has for all texts.

    Parameters
    ----------
    spec
        What it is to be opened with.
    wanted_bytes, taken_bytes
        What it may take, and what the open ones may.
    memory_bytes
        What base and global update leave of the device's memory.
    num_open
        How many sessions are open that write.

    Raises
    ------
    WorkerRejectedError
        Saying what there is.
    """
    if num_open >= MOST_SESSIONS:
        raise WorkerRejectedError(
            f"{num_open} sessions that write are open, no more are allowed: close some"
        )
    most = MEMORY_SHARE * memory_bytes
    if taken_bytes + wanted_bytes > most:
        raise WorkerRejectedError(
            f"{spec.kept_tokens} tokens to keep would take {size_text(wanted_bytes)}: of "
            f"{size_text(most)} for all texts {size_text(max(0.0, most - taken_bytes))} are left; "
            "ask for fewer tokens, or wait until other sessions are closed"
        )
