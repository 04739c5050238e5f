"""A client's answers to messages: a reply, or the reason why there is none, also in its own log."""

import platform
from collections.abc import Callable
from logging import WARNING

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode
from flwr.common.logger import log

from ..devices import name_from_node_config
from ..devices.cards import is_rays_process
from ..errors import HSplitError
from ..wire.error_text import one_line, signed, write_error


def errors_as_replies(msg: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A mod for a ``ClientApp``: what its own code finds wrong with this node becomes a reply.

    ``ClientApp(mods=[errors_as_replies])`` answers an `HSplitError` of the app's functions, such as
    a `ConfigError` for what a node config lacks, with its words. Others are errors of the app.
    """
    try:
        return call_next(msg, context)
    except HSplitError as error:
        return _refusal(msg, context, error)


def answer(msg: Message, context: Context, make: Callable[[], RecordDict]) -> Message:
    """The reply, or an error with the reason where the client cannot do its part."""
    try:
        return Message(make(), reply_to=msg)
    except HSplitError as error:
        return _refusal(msg, context, error)


def tell(level: int, words: str) -> None:
    """Say it in the site's own log; a simulated client has none, and what it says is the run's."""
    if not is_rays_process():
        log(level, "%s", words)


def name_of(context: Context) -> str:
    """What this client is called."""
    return name_from_node_config(context.node_config, host=platform.node())


def _refusal(msg: Message, context: Context, error: HSplitError) -> Message:
    tell(WARNING, f"this client cannot do its part: {one_line(str(error))}")
    reason = write_error(error)
    if msg.metadata.message_type == MessageType.QUERY:
        # Nobody has been told yet how it is called.
        reason = signed(reason, name_of(context))
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=msg)
