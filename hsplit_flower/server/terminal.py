"""Where Flower's log is written, if that is a terminal of this process's own."""

from typing import TextIO

from flwr.common.logger import FLOWER_LOGGER


def terminal() -> TextIO | None:
    """The terminal that Flower's log goes to; None where it goes to a file, a pipe or elsewhere.

    A SuperLink has what its ServerApps write sent on, line by line, to whoever asks for a run's
    log: nothing of it may move then, though the SuperLink itself be in a terminal.
    """
    for handler in FLOWER_LOGGER.handlers:
        stream = getattr(handler, "stream", None)
        # Where output is sent on, the stream's own method is covered by another.
        if stream is not None and "write" not in vars(stream) and stream.isatty():
            return stream  # type: ignore[no-any-return]
    return None
