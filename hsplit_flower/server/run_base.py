"""The base of a run: what its parties must have the same of, and who has another one."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import CodecError, ConfigError
from ..settings import Model
from ..splitting import Checkpoint, Half, floating_dtype
from ..splitting.base_digest import BaseDigest
from ..splitting.base_reading import digest_of
from ..types import ClientInfo, WorkerDescription
from ..wire.base_text import base_from_text, base_to_text
from ..wire.error_text import one_line
from ..wire.same_base import problem_with


@dataclass(frozen=True, kw_only=True)
class RunBase:
    """The base that clients must have, as far as worker and server know it.

    Attributes
    ----------
    digest
        Of what they have; nothing where neither has any file of it.
    whose
        Who has it, for who is told that its own is another one.
    """

    digest: BaseDigest = field(default_factory=BaseDigest)
    whose: str = "the server"

    @property
    def text(self) -> str:
        """What a message carries of it."""
        return base_to_text(self.digest)

    def sorted_out(
        self, known: Mapping[int, ClientInfo], news: Mapping[int, ClientInfo]
    ) -> tuple[dict[int, ClientInfo], dict[int, str]]:
        """Of clients that have answered, those that may take part, and why the others may not.

        What neither worker nor server have must be as most of the clients say that it is.

        Parameters
        ----------
        known
            Who has been let in before.
        news
            Who has answered now.
        """
        read: dict[int, BaseDigest] = {}
        refused: dict[int, str] = {}
        for node, info in news.items():
            try:
                read[node] = base_from_text(info.base)
            except CodecError as error:
                refused[node] = one_line(f"what it says of its base cannot be read: {error}")
        refused |= self._unlike(read)
        said = [info.base for info in known.values() if info.base]
        said = said or [news[node].base for node in read.keys() - refused.keys()]
        agreed = self._with_most(said)
        refused |= agreed._unlike({n: one for n, one in read.items() if n not in refused})
        let_in = {
            node: self._without_what_is_known(news[node], read[node])
            for node in news
            if node not in refused
        }
        return let_in, refused

    def _unlike(self, read: Mapping[int, BaseDigest]) -> dict[int, str]:
        problems = {
            node: problem_with(one, self.digest, whose=self.whose) for node, one in read.items()
        }
        return {node: one_line(problem) for node, problem in problems.items() if problem}

    def _with_most(self, said: list[str]) -> "RunBase":
        # In an order that is the same whoever was the fastest to answer.
        most = [text for text, _ in Counter(sorted(said)).most_common(1) if text]
        if not most or self.digest.covers(other := base_from_text(most[0])):
            return self
        return RunBase(digest=self.digest.joined(other), whose="most of the clients")

    def _without_what_is_known(self, info: ClientInfo, own: BaseDigest) -> ClientInfo:
        return replace(info, base="") if self.digest.covers(own) else info


def run_base(model: Model, worker: WorkerDescription, *, quantised: str) -> RunBase:
    """What worker and server have of a run's base.

    Parameters
    ----------
    model
        As the server has it.
    worker
        What the worker says of itself.
    quantised
        What the base is quantised to; empty where it is not.

    Raises
    ------
    ConfigError
        If they have another one each.
    """
    own = digest_of(
        Checkpoint(source=model.name, revision=model.revision or None),
        floating_dtype(model.computes_in),
        is_quantised=bool(quantised),
    )
    theirs = base_from_text(worker.base)
    if not theirs.tensors:
        return RunBase(digest=own)
    if problem := problem_with(theirs, own, whose="the server"):
        raise ConfigError(f"the split worker has loaded {worker.model!r}, and {problem}")
    return RunBase(digest=theirs.joined(own), whose="the split worker")


def check_evaluated(half: Half, base: RunBase, model: Model, *, quantised: str) -> None:
    """See that the server evaluates the base that is trained on.

    Parameters
    ----------
    half
        What it has loaded for that.
    base, model, quantised
        Of the run.

    Raises
    ------
    ConfigError
        If it is another one.
    """
    if half.quantised != quantised:
        raise ConfigError(
            f"the server's evaluation has loaded a base that is {_kind(half.quantised)}, and the "
            f"run's is {_kind(quantised)}: give ServerEvaluation the Model that the strategy has"
        )
    if half.checkpoint is None:
        return
    evaluated = digest_of(
        half.checkpoint, floating_dtype(model.computes_in), is_quantised=bool(quantised)
    )
    if problem := problem_with(evaluated, base.digest, whose=base.whose):
        raise ConfigError(f"the server's evaluation cannot be used: {problem}")


def _kind(quantised: str) -> str:
    return f"quantised to {quantised}" if quantised else "not quantised"
