"""What a sketch says of two updates is how far they are from each other."""

import math

import pytest
import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.adapters.sketch import relative_difference, sketch_of


def update(seed: int, *, size: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        b=size * torch.randn(40, 3, generator=generator), a=torch.randn(3, 24, generator=generator)
    )


@pytest.mark.parametrize("share", [1e-4, 0.1, 1.0, 10.0])
def test_the_difference_is_nearly_that_of_the_products(share: float) -> None:
    names = [f"layers.{number}.q" for number in range(100)]
    one = {name: update(at) for at, name in enumerate(names)}
    other = {name: one[name] + update(at + 1000, size=share) for at, name in enumerate(names)}
    got = relative_difference(
        {name: sketch_of(name, one[name]) for name in names},
        {name: sketch_of(name, other[name]) for name in names},
    )
    far = math.hypot(*((other[name] - one[name]).dense().norm().item() for name in names))
    size = math.hypot(*(one[name].dense().norm().item() for name in names))
    assert got == pytest.approx(far / size, rel=0.3)


def test_factors_of_one_product_have_one_sketch() -> None:
    one = update(1)
    turned = LowRank(b=(one.b * 8).flip(1), a=(one.a / 8).flip(0))
    assert sketch_of("q", turned) == pytest.approx(sketch_of("q", one), rel=1e-6)


def test_it_is_the_same_in_every_release() -> None:
    """Notes of it are kept in files."""
    ones = LowRank(b=torch.ones(10, 1), a=torch.ones(1, 9))
    assert sketch_of("k", ones) == (4, -6, -2, 12)


def test_nothing_is_compared_with_nothing() -> None:
    nothing, something = {"q": sketch_of("q", None)}, {"q": sketch_of("q", update(1))}
    assert nothing["q"] == sketch_of("q", LowRank.zeros(40, 24))
    assert relative_difference(nothing, nothing) == 0
    assert relative_difference(nothing, something) == math.inf
    assert relative_difference(something, nothing) == pytest.approx(1)
