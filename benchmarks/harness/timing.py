"""Two ways of doing the same thing, timed so that the machine's moods hit both alike."""

import time
from collections.abc import Callable


def interleave(
    first: Callable[[], object], second: Callable[[], object], *, repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of each of two functions, run in turn ``repeats`` times after one run unmeasured.

    Which goes first alternates, so that a machine that slows down, or a cache that one leaves warm
    for the other, favours neither. ``Figure.of_repeats`` takes the median and the spread.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    first()
    second()
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats):
        pairs = list(zip((first, second), seconds, strict=True))
        for function, taken in pairs if repeat % 2 == 0 else reversed(pairs):
            started = time.perf_counter()
            function()
            taken.append(time.perf_counter() - started)
    return seconds
