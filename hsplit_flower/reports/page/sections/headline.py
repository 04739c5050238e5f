"""What a run was and came to, in a sentence and a few numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from ....names import in_order
from ...client_totals import client_totals
from ...history import RunHistory
from ...known_sum import KnownSum
from ...run import Run
from ..numbers import NONE, bytes_text, count_text, listed, measure_text, seconds_text
from ..section import Table


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number and what it is."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The head of a run's page; ``state`` is how it ended, in a word or two."""

    state: str
    is_good: bool
    sentence: str
    tiles: tuple[Tile, ...]


def headline(run: Run) -> Headline:
    """How a run ended, what it was, and its most asked numbers."""
    rounds = run.training
    completed = sum(line.completed for line in rounds)
    asked = max(int(run.config.get("num-server-rounds", 0)), len(rounds))
    return Headline(
        state=_state(completed, asked),
        is_good=bool(completed) and completed == asked,
        sentence=_sentence(run, completed),
        tiles=_tiles(run, completed, asked),
    )


def comparison(runs: Sequence[Run]) -> Table:
    """A row for each of several runs."""
    rows = []
    for run in runs:
        before, after = perplexities(run)
        completed = sum(line.completed for line in run.training)
        rows.append(
            (
                run.name,
                str(run.config.get("strategy", NONE)),
                f"{completed} of {len(run.training)}",
                str(len(trained_names(run))),
                measure_text(before),
                measure_text(after),
                seconds_text(measured_seconds(run)),
                seconds_text(simulated_seconds(run) or None),
                _sent(link_bytes(run)),
                _sent(flower_bytes(run)),
            )
        )
    header = ("run", "method", "rounds", "clients", "perplexity before", "after")
    costs = ("measured", "simulated", "to and from the worker", "through Flower")
    return Table(title="The runs", header=(*header, *costs), rows=tuple(rows), num_texts=2)


def perplexities(run: Run) -> tuple[float | None, float | None]:
    """As the server measured it before training, and after the last round that counts."""
    history = RunHistory.of(run.lines)
    return history.perplexity_before, history.perplexity_after


def trained_names(run: Run) -> list[str]:
    """Clients whose training counted in at least one round."""
    counted = {name for line in run.training for name, part in line.clients.items() if part.counts}
    return in_order(counted)


def measured_seconds(run: Run) -> float:
    """Of all rounds of training and clients' evaluation."""
    training = sum(line.seconds for line in run.training)
    return training + sum(line.seconds for line in run.client_evaluations)


def simulated_seconds(run: Run) -> float:
    """That training would have taken on the simulated devices; 0 without these."""
    return sum(line.simulated_seconds for line in run.training)


def link_bytes(run: Run) -> KnownSum:
    """Between clients and worker, both ways."""
    return _total(run, "worker_up_bytes", "worker_down_bytes")


def flower_bytes(run: Run) -> KnownSum:
    """Between clients and server, both ways."""
    return _total(run, "flower_up_bytes", "flower_down_bytes")


def _total(run: Run, *names: str) -> KnownSum:
    return sum((one.total(name) for one in client_totals(run) for name in names), KnownSum())


def _sent(total: KnownSum) -> str:
    """A dash where nothing was."""
    return total.text(bytes_text) if total.is_something else NONE


def _state(completed: int, asked: int) -> str:
    if not completed:
        return "no round was completed"
    return "completed" if completed == asked else f"{completed} of {asked} rounds completed"


def _sentence(run: Run, completed: int) -> str:
    model = run.config.get("model", {}).get("name") or "a model"
    method = run.config.get("strategy", "HSplitLoRA")
    clients = trained_names(run)
    if not completed:
        tried = count_text(len(run.training), "round")
        return (
            f"{method} was to fine-tune {model}; in {tried} too few clients finished, so nothing "
            "was learnt. Who was left out, and why, is below."
        )
    told = (
        f"{count_text(len(clients), 'client')} fine-tuned {model} together by {method}, in "
        f"{count_text(completed, 'round')}: {listed(clients)}."
    )
    before, after = perplexities(run)
    if before is None or after is None:
        return told
    verb = "fell" if after < before else "rose"
    change = f"Perplexity on the server's examples {verb} from {measure_text(before)} to"
    return f"{told} {change} {measure_text(after)}."


def _tiles(run: Run, completed: int, asked: int) -> tuple[Tile, ...]:
    before, after = perplexities(run)
    simulated = simulated_seconds(run)
    trained = set(trained_names(run))
    absent = in_order(name for name in run.names if name not in trained)
    tiles = [
        Tile(
            name="perplexity",
            value=measure_text(after),
            note=f"from {measure_text(before)}" if before is not None else "not measured before",
        ),
        Tile(name="rounds", value=str(completed), note=f"of {asked}"),
        Tile(
            name="clients",
            value=str(len(trained)),
            note=f"{listed(absent, 2)} took no part" if absent else "nobody was left out for good",
        ),
        Tile(
            name="time",
            value=seconds_text(measured_seconds(run)),
            note=f"{seconds_text(simulated)} on the simulated devices" if simulated else "measured",
        ),
        Tile(
            name="sent",
            value=_sent(link_bytes(run) + flower_bytes(run)),
            note=f"{_sent(link_bytes(run))} of it to and from the worker",
        ),
    ]
    return tuple(tiles)
