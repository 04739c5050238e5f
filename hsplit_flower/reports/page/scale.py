"""From values to places on a picture, and the round values that an axis names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NICE = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Places ``start`` to ``stop`` for the values ``low`` to ``high``, evenly or by factors."""

    low: float
    high: float
    start: float
    stop: float
    is_logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value is."""
        low, high, at = self.low, self.high, value
        if self.is_logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(max(at, 1e-300))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.stop - self.start)

    def ticks(self, about: int = 4) -> list[float]:
        """Round values between the ends."""
        if self.high <= self.low:
            return [self.low]
        if self.is_logarithmic:
            return _factors(self.low, self.high, about)
        step = _nice_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def scale_for(
    values: Sequence[float],
    start: float,
    stop: float,
    *,
    from_zero: bool = False,
    may_be_logarithmic: bool = False,
) -> Scale:
    """The scale on which these values have room.

    One by factors is chosen where it may be and the largest value is ten times the smallest.
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    if may_be_logarithmic and low > 0 and high >= 10 * low:
        room = (high / low) ** 0.04
        return Scale(low=low / room, high=high * room, start=start, stop=stop, is_logarithmic=True)
    if from_zero:
        low = min(low, 0.0)
    elif high > low:
        low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    if high <= low:
        high = low + (abs(low) or 1.0)
    return Scale(low=low, high=high, start=start, stop=stop)


def _nice_step(least: float) -> float:
    size = 10.0 ** math.floor(math.log10(least))
    return next(nice * size for nice in NICE if nice * size >= least * (1 - 1e-9))


def _factors(low: float, high: float, about: int) -> list[float]:
    """1, 2, 5 and their tenfolds, or the tenfolds alone where these are enough."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= about - 1:
            break
    return inside
