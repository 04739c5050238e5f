"""Whether a base is the one that a run has; who has another one is told what is other in it."""

from ..errors import UnsupportedModelError
from ..splitting.base_digest import BaseDigest, difference


def problem_with(got: BaseDigest, wanted: BaseDigest, *, whose: str) -> str:
    """Why a base cannot take part, in words; empty where it can, as far as is known.

    Parameters
    ----------
    got
        Its own.
    wanted
        The run's.
    whose
        Who has that.
    """
    found = difference(got, wanted)
    if not found:
        return ""
    return (
        f"it has another base than {whose}: {found}; give all of them one checkpoint: model.name "
        "and model.revision say which, and model in a node config where a client's own copy lies"
    )


def check_same_base(got: BaseDigest, wanted: BaseDigest, *, whose: str) -> None:
    """Refuse another base than the run's.

    Raises
    ------
    UnsupportedModelError
        Naming what is other in it.
    """
    if problem := problem_with(got, wanted, whose=whose):
        raise UnsupportedModelError(problem)
