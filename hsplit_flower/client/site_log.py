"""What a client's own log says of a round: what it was asked for, what it did, what left the site.

Values in, words out. Nothing of the texts is in them.
"""

from ..sizes import counted, digits_text, size_text
from ..types import Labels
from ..wire.instructions import Instructions
from .round_loop import Outcome


def asked(told: Instructions) -> str:
    """Which part of the model, with which ranks, over which worker, in how much memory."""
    spec = told.session
    first = "the first block" if spec.cut == 1 else f"the first {spec.cut} blocks"
    part = "all blocks" if told.whole.is_whole else first
    ranks = [rank for rank in spec.ranks.values() if rank]
    words = f"round {told.server_round}: asked to {'train' if spec.train else 'evaluate'} {part}"
    words += f" of {told.model.name}"
    if told.personal_steps:
        words += ", with an adapter that stays here"
    if spec.train and told.whole.trains_weights:
        words += ", all parameters"
    elif spec.train and ranks:
        words += f", adapters of rank {_range(min(ranks), max(ranks))}"
    if told.budget_bytes:
        words += f", within {size_text(told.budget_bytes)}"
    if told.whole.is_whole:
        return words
    return f"{words}, the rest at {told.address}{' over TLS' if told.trust.is_secured else ''}"


def did(told: Instructions, outcome: Outcome) -> str:
    """How many steps, examples and labelled tokens, how long, to which loss, in how much memory."""
    words = (
        f"round {told.server_round}: {counted(outcome.num_steps, 'step')} on "
        f"{counted(outcome.num_examples, 'example')} in {digits_text(outcome.seconds)} s"
    )
    if outcome.loss.num_tokens:
        done = "learnt" if told.session.train else "measured"
        words += f", {outcome.loss.num_tokens:,} tokens {done}, loss {outcome.loss.mean:.3f}"
    if outcome.peak_bytes:
        words += f", {size_text(outcome.peak_bytes)} of memory"
    return words


def left_site(told: Instructions, outcome: Outcome, *, array_bytes: int) -> str:
    """What went to the split worker and to the server.

    Parameters
    ----------
    told, outcome
        What was asked for, and what was done.
    array_bytes
        Of what was learnt, as the reply carries it.
    """
    to_server = ["loss, counts and seconds"]
    if told.session.train and not told.personal_steps:
        learnt = (
            "all parameters"
            if outcome.weights
            else f"adapters of {counted(len(outcome.updates), 'weight')}"
        )
        to_server = [
            f"{learnt} ({size_text(array_bytes)})",
            f"{len(outcome.importance)} scores of importance",
            *to_server,
            "what this device has",
        ]
    words = f"round {told.server_round}: left this site: to the server {', '.join(to_server)}"
    if told.whole.is_whole:
        return words
    return (
        f"{words}; to the split worker {size_text(outcome.traffic.up_bytes)}: {_to_worker(told)} "
        f"of {outcome.num_batch_tokens} tokens"
    )


def _to_worker(told: Instructions) -> str:
    norms = ", norms of gradients" if told.session.max_gradient_norm and told.session.train else ""
    if told.session.labels is Labels.SERVER:
        return f"hidden states, lengths or positions{norms} and LABELS"
    return f"hidden states, lengths or positions{norms} and gradients, no labels,"


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"
