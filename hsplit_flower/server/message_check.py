"""Whether the messages of a step fit what client and worker accept, before anybody trains."""

from ..errors import ConfigError
from ..methods import Method
from ..settings import RunSettings
from ..settings.link import MEBIBYTE, MOST_MESSAGE_MB
from ..types import WireType
from ..wire.message_size import largest_message_bytes, most_tokens


def check_messages(
    settings: RunSettings, method: Method, hidden_size: int, *, worker_bytes: int = 0
) -> None:
    """Refuse a run whose largest message is larger than the link's limit, or the worker's.

    Each client would load its half, run it, and fail at its first step, in every round.

    Parameters
    ----------
    settings, method, hidden_size
        Of the run, and of its model.
    worker_bytes
        The largest message that the worker takes, which may have been started with another limit;
        0 where it does not say.

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
    is_the_workers = 0 < worker_bytes < link.max_message_bytes
    most_bytes = worker_bytes if is_the_workers else link.max_message_bytes
    if needed_bytes <= most_bytes:
        return
    needed_mb = -(-needed_bytes // MEBIBYTE)
    fitting = most_tokens(most_bytes, hidden_size, *types)
    larger = (
        f"--max-message-mb = {needed_mb} where the worker is started"
        if is_the_workers
        else f"link.max-message-mb = {needed_mb}"
    )
    ways = [
        *_smaller(fitting, training.sequence_length, sends_parts=not method.shares_server_adapter),
        *([larger] if needed_mb <= MOST_MESSAGE_MB else []),
        *(["link.wire-type = 'bfloat16'"] if types[0] is WireType.FLOAT32 else []),
    ]
    raise ConfigError(
        f"{num_rows} examples of {training.sequence_length} tokens at a time are messages of "
        f"{needed_mb} MB between clients and the worker, and "
        f"{'the largest that the worker takes' if is_the_workers else 'link.max-message-mb'} is "
        f"{most_bytes // MEBIBYTE}: set {', or '.join(ways)}"
    )


def _smaller(fitting: int, sequence_length: int, *, sends_parts: bool) -> list[str]:
    """Which batch, or else which length, has no more tokens than fit."""
    if num_rows := fitting // sequence_length:
        return [f"training.{'micro-' if sends_parts else ''}batch-size = {num_rows}"]
    return [f"training.sequence-length = {fitting}"] if fitting > 1 else []
