"""What the log says of clients: of many alike one line, of many lines the first ones."""

from collections.abc import Mapping

from ..names import listed

MOST_NAMES, MOST_LINES = 3, 3
PLURAL = {"is": "are", "has": "have", "counts": "count"}


def client_lines(told: Mapping[str, str]) -> list[str]:
    """``client bank is away``, or ``clients bank, home, shop and 2 more are away``.

    Parameters
    ----------
    told
        Of each client, by its name, what is said; it begins with a verb.
    """
    together: dict[str, list[str]] = {}
    for name, words in told.items():
        together.setdefault(words, []).append(name)
    if len(together) <= MOST_LINES:
        return [_line(names, words) for words, names in together.items()]
    shown = dict(list(together.items())[: MOST_LINES - 1])
    num_others = len(told) - sum(map(len, shown.values()))
    lines = [_line(names, words) for words, names in shown.items()]
    return [*lines, f"… and the like of {num_others} more clients, with other words or numbers"]


def _line(names: list[str], words: str) -> str:
    if len(names) == 1:
        return f"client {names[0]} {words}"
    verb, _, rest = words.partition(" ")
    of_each = rest.replace(": it ", ": each ", 1)
    return f"clients {listed(names, MOST_NAMES)} {PLURAL.get(verb, verb)} {of_each}"
