"""What Gaussian noise promises: (ε, δ) of vectors that are clipped, noised and sent, many times.

Gaussian differential privacy (Dong, Roth, Su 2019, arXiv 1905.02383): a release whose sensitivity
is ``Δ`` and whose noise has the standard deviation ``s`` is ``μ``-GDP with ``μ = Δ/s``; releases
that follow each other, even chosen after what came before, compose to ``√Σ μ²``. From ``μ`` to
``(ε, δ)`` is exact (Balle, Wang 2018, arXiv 1805.06530, theorem 8).
"""

import math
from statistics import NormalDist
from typing import Final

_NORMAL = NormalDist()

USUAL_DELTA: Final = 1e-5
"""The δ at which figures are stated."""


def gaussian_mu(noise_multiplier: float, *, num_vectors: int = 1, num_releases: int = 1) -> float:
    """``μ`` of vectors clipped to a norm ``C``, with noise of ``multiplier · C`` on each number.

    Somebody else's input may turn a vector round: its sensitivity is ``2 C``.

    Parameters
    ----------
    noise_multiplier
        Standard deviation in clip norms; with 0 nothing is promised.
    num_vectors
        How many vectors of one release depend on what is protected: 1 for the vector itself, for a
        text all of its tokens, for one token all from its place on.
    num_releases
        How often it is sent: epochs, and evaluations.
    """
    if not noise_multiplier:
        return math.inf
    return 2.0 / noise_multiplier * math.sqrt(num_vectors * num_releases)


def composed_mu(*mus: float) -> float:
    """``√Σ μ²``: what releases that follow each other have together."""
    return math.hypot(*mus)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The smallest ``δ`` for which ``μ``-GDP is (ε, δ)-DP.

    ``Φ(−ε/μ + μ/2) − e^ε Φ(−ε/μ − μ/2)``
    """
    if not mu:
        return 0.0
    if math.isinf(mu):
        return 1.0
    first = _NORMAL.cdf(-epsilon / mu + mu / 2)
    second = _NORMAL.cdf(-epsilon / mu - mu / 2)
    # Where e^ε leaves what a float holds its factor has long been zero.
    return max(0.0, first - (math.exp(epsilon) * second if second else 0.0))


def gaussian_epsilon(delta: float, mu: float) -> float:
    """The smallest ``ε`` for which ``μ``-GDP is (ε, δ)-DP; infinite where nothing is promised."""
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be a number between 0 and 1, got {delta}")
    if math.isinf(mu):
        return math.inf
    low, high = 0.0, 1.0
    while gaussian_delta(high, mu) > delta:
        high *= 2.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(middle, mu) > delta else (low, middle)
    return high
