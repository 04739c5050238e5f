"""What is looked at before a run, so that it does not fail in its middle."""

from flwr.serverapp import Grid

from ..devices import cards
from ..errors import ConfigError, NoCardError
from ..settings import Simulation
from ..settings.simulation import REPORTED


def check_place(grid: Grid, simulation: Simulation) -> None:
    """See before a run that what is said of its devices can be so where it runs.

    Parameters
    ----------
    grid
        Of the run.
    simulation
        What its devices are to be.

    Raises
    ------
    ConfigError
        If devices are made up for nodes that have their own.
    NoCardError
        If simulated ones are to lease parts of cards that are not there.
    """
    if is_deployed(grid):
        _refuse_made_up(simulation)
    _check_cards(grid, simulation.lease_card_bytes)


def _refuse_made_up(simulation: Simulation) -> None:
    own = Simulation(fleet=REPORTED if simulation.fleet == REPORTED else "")
    problems = [
        f"simulation.{field.key} = {getattr(simulation, field.name)!r}"
        for field in Simulation.known()
        if getattr(simulation, field.name) != getattr(own, field.name)
    ]
    if problems:
        raise ConfigError.listing(
            "the run is on a SuperLink whose nodes have devices of their own, and not in a "
            "simulation: leave out what is made up. The run-config",
            problems,
        )


def _check_cards(grid: Grid, lease_card_bytes: float | None) -> None:
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


def is_deployed(grid: Grid) -> bool:
    """Whether the nodes of a run are SuperNodes of a real SuperLink.

    Flower has two kinds of grid; that of deployments has had several names.
    """
    return type(grid).__module__.startswith("flwr.") and not is_simulated_here(grid)
