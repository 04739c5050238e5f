"""What the noise of a run is worth, in words: ε of a token, a text, and all that a client sent."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..metrics import USUAL_DELTA, composed_mu, gaussian_epsilon, gaussian_mu
from .client_totals import ClientTotals, client_totals
from .known_sum import KnownSum
from .markdown import cell
from .run import Run

TOGETHER = (
    " The worker runs with the server, which has clients' adapters, too: against both together "
    "nothing is promised."
)
OTHERS = " Nothing else that clients send is covered, nor the global adapter made of it."


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What is done to a token's vector of one kind before it leaves.

    ``multiplier`` is the standard deviation of the noise on each number, in clip norms.
    """

    clip_norm: float = 0.0
    multiplier: float = 0.0

    @property
    def why_nothing(self) -> str:
        """Why no bound follows; empty where one does."""
        if not self.multiplier:
            return "sent without noise"
        return "" if self.clip_norm else "not clipped"

    def mu(self, num_vectors: int) -> float:
        """Of so many vectors; infinite where no bound follows."""
        if not num_vectors:
            return 0.0
        return gaussian_mu(0.0 if self.why_nothing else self.multiplier, num_vectors=num_vectors)


@dataclass(frozen=True, kw_only=True)
class Noising:
    """What of a run's settings decides what its noise is worth.

    Attributes
    ----------
    hidden, gradients
        What is done to hidden states, and to the gradients of last ones; None where no such
        gradient is sent.
    is_repeatable
        Whether somebody can compute the noise.
    row_tokens
        Of the longest text; 0 where nothing says it.
    is_servers
        Whether the worker is the server's own.
    """

    hidden: Noise
    gradients: Noise | None
    is_repeatable: bool
    row_tokens: int
    is_servers: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Noising":
        """That of settings as ``config.json`` has them; what is not there is not done."""
        link, training = config.get("link") or {}, config.get("training") or {}

        def noise(kind: str) -> Noise:
            norm, multiplier = link.get(f"{kind}-clip-norm"), link.get(f"{kind}-noise")
            return Noise(clip_norm=norm or 0.0, multiplier=multiplier or 0.0)

        return cls(
            hidden=noise("hidden"),
            gradients=noise("gradient") if training.get("labels") == "client" else None,
            is_repeatable=link.get("noise-seed") is not None,
            row_tokens=training.get("sequence-length") or 0,
            is_servers=not (config.get("worker") or {}).get("address"),
        )

    @property
    def is_on(self) -> bool:
        """Whether there is any noise."""
        return any(kind.multiplier for _, kind in self._kinds())

    def mu(self, num_hidden: int, num_gradients: int) -> float:
        """Of so many vectors of both kinds together."""
        gradients = 0.0 if self.gradients is None else self.gradients.mu(num_gradients)
        return composed_mu(self.hidden.mu(num_hidden), gradients)

    def promises(self) -> Iterator[str]:
        """What follows for a token's vector and for a text, each sent once."""
        missing = []
        for name, kind in self._kinds():
            yield _promise(f"one token's {name}, sent once", kind.mu(1), kind.why_nothing)
            if kind.why_nothing:
                missing.append(f"{name}s are {kind.why_nothing}")
        if not self.row_tokens:
            return
        text = f"a text of {self.row_tokens} tokens, sent once"
        yield _promise(text, self.mu(self.row_tokens, self.row_tokens), " and ".join(missing))

    def _kinds(self) -> Iterator[tuple[str, Noise]]:
        yield "hidden state", self.hidden
        if self.gradients is not None:
            yield "gradient", self.gradients


def noise_text(config: Mapping[str, Any]) -> str:
    """What a run's noise is worth as far as its settings say it; empty where it has none."""
    noising = Noising.of(config)
    return _text(noising, list(noising.promises())) if noising.is_on else ""


def run_noise_text(run: Run) -> str:
    """The same after a run, in Markdown, and what follows for the client that sent most.

    Steps of a client that dropped out or began a round anew, and on an adapter of its own, are
    counted by nobody: where there are any, ε is at least what is said. Empty where nothing was sent
    to a worker, too.
    """
    noising = Noising.of(run.config)
    clients = [each for each in client_totals(run) if each.total("worker_up_bytes").is_something]
    if not (noising.is_on and clients):
        return ""
    promises = list(noising.promises())
    most = max(clients, key=lambda client: client.total("num_batch_tokens").value)
    trained = KnownSum.of(one.num_batch_tokens for one in most.trained.values())
    num_trained, num_all = int(trained.value), int(most.total("num_batch_tokens").value)
    mu = noising.mu(num_all, num_trained)
    if num_all and math.isfinite(mu):
        is_all = all(_is_counted(run, client) for client in clients)
        all_of_it = f"all that {cell(most.name)} sent in the run, the most of any client"
        promises.append(
            _promise(
                f"{all_of_it} ({num_all:,} tokens)", mu, at_least="" if is_all else "at least "
            )
        )
    return _text(noising, promises)


def _text(noising: Noising, promises: list[str]) -> str:
    if noising.is_repeatable:
        return (
            "No guarantee follows from the noise: link.noise-seed is set, and whoever knows it "
            "takes the noise off."
        )
    if not any("ε" in each for each in promises):
        return f"No guarantee follows from the noise: {'; '.join(promises)}."
    told = f"Noise, at δ = {USUAL_DELTA:g} against the split worker: {'; '.join(promises)}."
    return told + OTHERS + (TOGETHER if noising.is_servers else "")


def _promise(subject: str, mu: float, why_nothing: str = "", *, at_least: str = "") -> str:
    if why_nothing:
        return f"no guarantee for {subject}: {why_nothing}"
    return f"ε = {at_least}{_rounded_up(gaussian_epsilon(USUAL_DELTA, mu))} for {subject}"


def _rounded_up(epsilon: float) -> str:
    """To three digits, or to a whole number where that has more: a bound that is one still."""
    places = 3 if epsilon < 0.01 else max(0, 2 - math.floor(math.log10(epsilon)))
    return f"{math.ceil(epsilon * 10**places) / 10**places:,.{places}f}"


def _is_counted(run: Run, client: ClientTotals) -> bool:
    """Whether every vector that a client sent is in what was counted."""
    own = run.personalisation
    is_again = any(client.name in line.moved for line in run.training)
    has_own = own is not None and client.name in own.clients
    return client.total("num_batch_tokens").is_all and not (is_again or has_own)
