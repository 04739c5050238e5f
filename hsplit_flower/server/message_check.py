"""Whether the messages of a step fit what client and worker accept, before anybody trains."""

from ..errors import ConfigError
from ..methods import Method
from ..settings import RunSettings
from ..settings.link import MEBIBYTE, MOST_MESSAGE_MB
from ..types import WireType
from ..wire.message_size import largest_message_bytes, most_tokens


def check_messages(settings: RunSettings, method: Method, hidden_size: int) -> None:
    """Refuse a run whose largest message is larger than the link's limit.

    Each client would load its half, run it, and fail at its first step, in every round.

    Raises
    ------
    ConfigError
        Naming the micro-batch that would fit, if there is one, and the limit that would do.
    """
    if not method.is_split:
        return
    training, link = settings.training, settings.link
    num_rows = min(training.micro_batch_size or training.batch_size, training.batch_size)
    types = (settings.hidden_type, link.wire_gradient_type)
    num_tokens = num_rows * training.sequence_length
    needed_bytes = largest_message_bytes(num_tokens, hidden_size, *types)
    if needed_bytes <= link.max_message_bytes:
        return
    needed_mb = -(-needed_bytes // MEBIBYTE)
    fitting = most_tokens(link.max_message_bytes, hidden_size, *types)
    ways = [
        *_smaller(fitting, training.sequence_length, sends_parts=not method.shares_server_adapter),
        *([f"link.max-message-mb = {needed_mb}"] if needed_mb <= MOST_MESSAGE_MB else []),
        *(["link.wire-type = 'bfloat16'"] if types[0] is WireType.FLOAT32 else []),
    ]
    raise ConfigError(
        f"{num_rows} examples of {training.sequence_length} tokens at a time are messages of "
        f"{needed_mb} MB between clients and the worker, and link.max-message-mb is "
        f"{link.max_message_mb}: set {', or '.join(ways)}"
    )


def _smaller(fitting: int, sequence_length: int, *, sends_parts: bool) -> list[str]:
    """Which batch, or else which length, has no more tokens than fit."""
    if num_rows := fitting // sequence_length:
        return [f"training.{'micro-' if sends_parts else ''}batch-size = {num_rows}"]
    return [f"training.sequence-length = {fitting}"] if fitting > 1 else []
