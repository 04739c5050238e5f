"""Values that check themselves: how the scale of an adapter follows from its rank."""

import math

import pytest

from hsplit_flower.types import ScaleRule, Scaling


@pytest.mark.parametrize(
    ("rule", "scales"),
    [
        (ScaleRule.LORA, (32.0, 16.0, 8.0, 2.0)),
        (ScaleRule.RSLORA, (32.0, 32 / math.sqrt(2), 16.0, 8.0)),
        (ScaleRule.CONSTANT, (32.0, 32.0, 32.0, 32.0)),
    ],
)
def test_a_scale_follows_from_alpha_and_the_rank(
    rule: ScaleRule, scales: tuple[float, ...]
) -> None:
    scaling = Scaling(alpha=32.0, rule=rule)
    assert [scaling.of(rank) for rank in (1, 2, 4, 16)] == pytest.approx(scales)
    # Nothing is trained there, and nothing is divided by it.
    assert math.isfinite(scaling.of(0))


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_no_scale_is_made_of_such_an_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be a positive number"):
        Scaling(alpha=alpha)
