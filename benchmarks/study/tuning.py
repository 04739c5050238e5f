"""A method's best learning rate: a climb on a grid, from its middle until both neighbours lose."""

import math
from collections.abc import Callable, Mapping, Sequence

Losses = Mapping[float, float]


def climb(
    grids: Mapping[str, Sequence[float]],
    measure: Callable[[Mapping[str, set[float]]], Mapping[str, Losses]],
) -> dict[str, dict[float, float]]:
    """What each method loses at the rates that were tried, by name; only of those that are done.

    Parameters
    ----------
    grids
        Rates by method, ascending; the third and fourth are tried first.
    measure
        Gives the losses of the rates that are asked for, by method. A method of which any is
        missing is left out.
    """
    known: dict[str, dict[float, float]] = {}
    wanted = {name: set(grid[2:4]) for name, grid in grids.items()}
    while wanted:
        for name, losses in measure(wanted).items():
            known.setdefault(name, {}).update(losses)
        done = {name for name, rates in wanted.items() if rates <= known.get(name, {}).keys()}
        for name in wanted.keys() - done:
            known.pop(name, None)
        wanted = {
            name: rates for name in sorted(done) if (rates := _next(grids[name], known[name]))
        }
    return known


def best_rate(losses: Losses) -> float:
    """The rate that lost least."""
    return min(losses, key=lambda rate: losses[rate])


def last_of(curve: Sequence[Mapping[str, float | None]]) -> float:
    """What a trial ended with; infinite where it diverged."""
    last = curve[-1]["perplexity"]
    return math.inf if last is None else last


def _next(grid: Sequence[float], losses: Losses) -> set[float]:
    """The best rate's neighbours that were not tried."""
    place = grid.index(best_rate(losses))
    return set(grid[max(0, place - 1) : place + 2]) - losses.keys()
