"""A made-up fleet is for simulations, and what a run is in is known by its grid."""

import pytest
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.superlink.grid.inmemory_grid import InMemoryGrid

from benchmarks.tools.threads import ThreadGrid
from hsplit_flower.errors import ConfigError
from hsplit_flower.server.preflight import check_place, is_deployed, is_simulated_here
from hsplit_flower.settings import Simulation

# Flower's own, of which nothing is called.
DEPLOYED, SIMULATED = HttpGrid.__new__(HttpGrid), InMemoryGrid.__new__(InMemoryGrid)
OURS = ThreadGrid.__new__(ThreadGrid)


def test_a_run_knows_where_it_is() -> None:
    assert [is_deployed(grid) for grid in (DEPLOYED, SIMULATED, OURS)] == [True, False, False]
    assert [is_simulated_here(grid) for grid in (DEPLOYED, SIMULATED, OURS)] == [False, True, False]


def test_what_is_made_up_is_refused_for_real_nodes_all_at_once() -> None:
    made_up = Simulation(fleet="heterogeneous", unavailable=0.2, budget_changes="1:0=0.5")
    with pytest.raises(ConfigError) as caught:
        check_place(DEPLOYED, made_up)
    for problem in (
        "3 problems",
        "simulation.fleet = 'heterogeneous'",
        "simulation.unavailable = 0.2",
        "simulation.budget-changes = '1:0=0.5'",
    ):
        assert problem in str(caught.value)
    check_place(SIMULATED, made_up)


@pytest.mark.parametrize("fleet", ["", "reported"])
def test_devices_that_say_themselves_what_they_have_are_fine_anywhere(fleet: str) -> None:
    for grid in (DEPLOYED, SIMULATED, OURS):
        check_place(grid, Simulation(fleet=fleet))
