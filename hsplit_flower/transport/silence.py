"""A worker that does not answer: how often and how long it is tried."""

import time

from ..errors import WorkerUnavailableError
from .channel import ChannelSettings


class Silence:
    """The tries of one call, from the first one on.

    Parameters
    ----------
    settings
        How many tries there are at least, and for how long.
    """

    def __init__(self, settings: ChannelSettings) -> None:
        self.num_tries = 0
        self.failure: WorkerUnavailableError | None = None
        self._settings = settings
        self._since = 0.0

    def goes_on(self, failure: WorkerUnavailableError) -> None:
        """Note that a try has failed. Patience is counted from the first failure on."""
        if self.failure is None:
            self._since = time.monotonic()
        self.failure = failure
        self.num_tries += 1

    def tries_again(self) -> bool:
        """Whether there is another try; if so it is time for it when this returns."""
        if self.failure is None:
            return True
        if not self._settings.tries_again(self.num_tries, time.monotonic() - self._since):
            return False
        time.sleep(self._settings.pause_before(self.num_tries))
        return True
