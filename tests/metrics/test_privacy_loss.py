"""What Gaussian noise promises, against the definition of (ε, δ) and known figures."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.metrics import gaussian_delta, gaussian_epsilon, gaussian_mu

mus = st.floats(0.02, 12.0)


@settings(max_examples=40, deadline=None)
@given(mus, st.floats(0.0, 20.0))
def test_delta_is_what_the_two_densities_differ_by(mu: float, epsilon: float) -> None:
    """``∫ max(0, p − e^ε q)`` of ``N(μ, 1)`` and ``N(0, 1)``, by the trapezoid rule."""
    x = torch.linspace(-12.0, mu + 12.0, 40_001, dtype=torch.float64)
    p, q = (torch.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (mu, 0.0))
    wanted = torch.trapezoid((p - math.exp(epsilon) * q).clamp(min=0.0), x)
    assert gaussian_delta(epsilon, mu) == pytest.approx(float(wanted), abs=1e-7)


@given(mus, st.floats(1e-9, 0.3))
def test_epsilon_is_the_smallest_that_has_the_delta(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(delta, mu)
    assert gaussian_delta(epsilon, mu) <= delta
    if epsilon > 1e-6:
        assert gaussian_delta(epsilon * (1 - 1e-6) - 1e-9, mu) >= delta * (1 - 1e-3)


@given(st.floats(0.1, 100.0), st.integers(1, 300), st.integers(1, 50))
def test_releases_compose_by_their_squares(noise: float, vectors: int, releases: int) -> None:
    one = gaussian_mu(noise)
    assert one == pytest.approx(2 / noise)
    many = gaussian_mu(noise, num_vectors=vectors, num_releases=releases)
    assert many**2 == pytest.approx(vectors * releases * one**2)


def test_without_noise_nothing_is_promised() -> None:
    assert gaussian_mu(0.0) == math.inf
    assert gaussian_epsilon(1e-5, gaussian_mu(0.0)) == math.inf
    assert gaussian_delta(3.0, math.inf) == 1.0
    with pytest.raises(ValueError, match="delta must be"):
        gaussian_epsilon(0.0, 1.0)
