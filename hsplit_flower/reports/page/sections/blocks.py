"""Where in a model a weight is, read off its name."""

from collections.abc import Iterable, Mapping


def place_of(weight: str) -> tuple[int, str] | None:
    """Its block, and what it is called in it; None where no part of the name is a number."""
    parts = weight.split(".")
    for position, part in enumerate(parts):
        if part.isdecimal():
            return int(part), ".".join(parts[position + 1 :])
    return None


def grid_of(
    scores: Mapping[str, float],
) -> tuple[list[int], list[str], dict[tuple[int, str], float]]:
    """Blocks, kinds of weights by short names, and a score for each of both that is there."""
    placed = {place: score for name, score in scores.items() if (place := place_of(name))}
    kinds = short_names(dict.fromkeys(kind for _, kind in placed))
    blocks = sorted({block for block, _ in placed})
    by_place = {(block, kinds[kind]): score for (block, kind), score in placed.items()}
    return blocks, list(kinds.values()), by_place


def short_names(kinds: Iterable[str]) -> dict[str, str]:
    """The last part of each name, with as many before it as tell it from the others."""
    names = list(kinds)
    short = {}
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            end = ".".join(parts[-length:])
            if sum(f".{other}".endswith(f".{end}") for other in names) == 1:
                break
        short[name] = end
    return short
