"""Those who finished a round compared with each other, and what came of it put into the results."""

from dataclasses import replace
from logging import WARNING

from flwr.common.logger import log

from ..aggregation import Proportion
from ..methods import ClientResult, Method, MethodState, compared
from ..settings import Aggregation, RunSettings
from .collection import TrainResults


def with_comparison(
    results: TrainResults, state: MethodState, method: Method, settings: RunSettings
) -> TrainResults:
    """The results with what of them is used; whoever is refused has not finished.

    Parameters
    ----------
    results
        What the round's clients brought home.
    state
        What was known before it.
    method, settings
        Of the run.
    """
    options = settings.aggregation
    brought = {
        node: ClientResult(
            num_examples=results.reports[node].num_examples,
            updates=reply.updates,
            weights=reply.weights,
            importance=reply.importance,
        )
        for node, reply in results.finished.items()
    }
    training = settings.training
    found = compared(
        method,
        state,
        brought,
        start=training.start,
        options=options,
        scaling=training.scaling,
    )
    reports = dict(results.reports)
    for node, proportion in found.proportions.items():
        used = found.results.get(node)
        reports[node] = replace(
            reports[node],
            proportion=proportion,
            uncounted_examples=reports[node].num_examples - used.num_examples if used else 0,
            is_selected=node not in found.unselected,
            dropped=_refusal(proportion, options) if proportion.is_refused else None,
        )
    _tell_of_small_rounds(len(found.results) + len(found.unselected), options)
    finished = {
        node: reply
        for node, reply in results.finished.items()
        if not found.proportions[node].is_refused
    }
    return replace(results, finished=finished, used=found.results, reports=reports)


def _refusal(proportion: Proportion, options: Aggregation) -> str:
    return (
        f"its change of {proportion.where} is {proportion.multiple:.3g} times the median of the "
        f"round, at most {options.refuse_above:g} times is wanted (aggregation.refuse-above)"
    )


def _tell_of_small_rounds(num_clients: int, options: Aggregation) -> None:
    """Krum's guarantee is for rounds of some size."""
    needed = 2 * options.num_malicious_nodes + 3
    if options.selection != "all" and num_clients < needed:
        log(
            WARNING,
            "aggregation.selection = %r promises something for %s clients or more where %s may be "
            "malicious; this round has %s",
            options.selection,
            needed,
            options.num_malicious_nodes,
            num_clients,
        )
