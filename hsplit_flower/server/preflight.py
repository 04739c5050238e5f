"""What is looked at before a run, so that it does not fail in its middle."""

from flwr.serverapp import Grid

from ..devices import cards
from ..errors import NoCardError


def check_cards(grid: Grid, lease_card_bytes: float | None) -> None:
    """See before a simulation that its Ray has a card, where clients lease parts of cards.

    Parameters
    ----------
    grid
        Of the run; where Ray is not this process's, it is for the clients to say.
    lease_card_bytes
        What clients share of a card; None where they lease nothing.

    Raises
    ------
    NoCardError
        If there is none, or no Ray in time.
    """
    if not lease_card_bytes or not is_simulated_here(grid):
        return
    if not cards.await_ray():
        raise NoCardError(
            f"clients are to lease parts of cards from Ray, and the simulation has not started it "
            f"within {cards.AWAITING_SECONDS:g} s: its log says why"
        )
    cards.check_cluster(cards.nodes())


def is_simulated_here(grid: Grid) -> bool:
    """Whether Flower's simulation runs in this process, and so starts Ray in it.

    The class of its grid lies elsewhere from version to version, and is known by its name.
    """
    return type(grid).__name__ == "InMemoryGrid"
