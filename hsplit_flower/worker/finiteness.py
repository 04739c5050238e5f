"""What a step computed is looked at before it is applied: nothing but finite numbers is."""

import math
from collections.abc import Mapping

from torch import Tensor
from torch.nn.utils import get_total_norm

from ..errors import NonFiniteError
from ..importance import check_finite
from .session import Session


def check_gradients(session: Session, gradient: Tensor | None, scores: Mapping[str, float]) -> None:
    """Refuse what is not finite, before the optimizer's step."""
    check_finite(scores)
    found = [gradient, *(factor.grad for factor in session.factors)]
    largest = get_total_norm([g for g in found if g is not None], norm_type=math.inf)
    if not math.isfinite(float(largest)):
        raise NonFiniteError("a gradient above the cut is not finite: the step is not taken")


def finite(value: float, what: str) -> float:
    """The value, unless it is not finite."""
    if not math.isfinite(value):
        raise NonFiniteError(f"the {what} is {value}: the step is not taken")
    return value
