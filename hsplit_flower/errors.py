"""Every error that the library raises on purpose.

Each message says what was got, what was wanted, and what to change::

    HSplitError
    ├── ConfigError(ValueError)           a setting is unknown, mistyped or out of range
    ├── DataError(ValueError)             a data set cannot be read as one
    ├── UnsupportedModelError(ValueError) a model cannot be split, or not be loaded safely
    ├── SplitError(ValueError)            a cut or span does not fit the model
    ├── AdapterError(ValueError)          factors or an adapter checkpoint do not fit the model
    ├── InfeasibleBudgetError             no client's budget holds the smallest cut
    ├── OutOfBudgetError                  a client needed more memory than its budget
    ├── LeaseError                        Ray gave no part of a card in time
    │   └── NoCardError                   there is none to lease; waiting is no use
    ├── MetricsUnavailableError           a program or library that scores texts is missing or fails
    ├── NonFiniteError                    a loss, gradient or importance is not a finite number
    ├── StorageError                      a file of a run cannot be written
    ├── NodesMissingError                 fewer nodes are connected than a round wants
    └── TransportError                    the talk between client and split worker failed
        ├── CodecError(ValueError)        a payload is not what it says it is
        ├── WorkerUnavailableError        the worker cannot be reached; may be tried again
        └── WorkerRejectedError           the worker refused; trying again is no use
            ├── AuthenticationError       the session token is missing, wrong or expired
            └── CertificateError          client and worker do not secure their channel alike
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from .sizes import size_text


class HSplitError(Exception):
    """Base of every error raised on purpose by hsplit_flower."""


class ConfigError(HSplitError, ValueError):
    """A setting is unknown, mistyped or out of range; the message lists all that are."""

    @classmethod
    def listing(cls, subject: str, problems: Sequence[str]) -> "ConfigError":
        """An error that says of its subject everything that is wrong with it, line by line."""
        counted = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        return cls(f"{subject} has {counted}:" + "".join(f"\n  - {p}" for p in problems))


class DataError(HSplitError, ValueError):
    """A data set is missing, malformed or empty.

    A client sends the words of an error to the server: nothing that a file holds is in them.

    Attributes
    ----------
    private_detail
        What was found in a file, for its owner's own terminal alone.
    """

    def __init__(self, words: str = "", *, private_detail: str = "") -> None:
        super().__init__(words)
        self.private_detail = private_detail


class UnsupportedModelError(HSplitError, ValueError):
    """A model cannot be split, or cannot be loaded safely; names its type and the reason."""


class SplitError(HSplitError, ValueError):
    """A cut or a span does not fit the model."""


class AdapterError(HSplitError, ValueError):
    """Low-rank factors, or an adapter checkpoint, do not fit the model or each other."""


class InfeasibleBudgetError(HSplitError):
    """No client's budget holds even the smallest cut; names each client with the bytes it lacks."""


class OutOfBudgetError(HSplitError):
    """A client needed more memory than its budget, and stopped before it took more.

    Attributes
    ----------
    predicted_bytes
        What its plan says it needs; 0 where nothing was predicted.
    measured_bytes
        What it held when it was stopped: what it needs is that or more.
    budget_bytes
        What it may hold.
    """

    def __init__(
        self, *, predicted_bytes: float, measured_bytes: float, budget_bytes: float
    ) -> None:
        self.predicted_bytes = predicted_bytes
        self.measured_bytes = measured_bytes
        self.budget_bytes = budget_bytes
        super().__init__(
            f"needed at least {size_text(measured_bytes)}, predicted were "
            f"{size_text(predicted_bytes)}, the budget is {size_text(budget_bytes)}: it is "
            "planned lower from now on; give the device more memory if it is left out then"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        values = {name: getattr(self, name) for name in vars(self)}
        return partial(type(self), **values), ()


class LeaseError(HSplitError):
    """Ray gave no part of a card in time."""


class NoCardError(LeaseError):
    """There is no card to lease a part of, or not such a one; waiting for it is no use."""


class MetricsUnavailableError(HSplitError):
    """A program or a library that scores texts is missing, or fails."""


class NonFiniteError(HSplitError):
    """A loss, a gradient or an importance is NaN or infinite."""


class StorageError(HSplitError):
    """A file of a run cannot be written; names it, and what to do."""


class NodesMissingError(HSplitError):
    """Fewer nodes are connected than a round wants, and it was waited long enough."""


class TransportError(HSplitError):
    """The talk between a client and the split worker failed."""


class CodecError(TransportError, ValueError):
    """A payload is not what it says it is."""


class WorkerUnavailableError(TransportError):
    """The worker cannot be reached or went away; the same call may be tried again."""


class WorkerRejectedError(TransportError):
    """The worker refused the call; trying the same again is no use."""


class AuthenticationError(WorkerRejectedError):
    """The session token is missing, wrong or expired."""


class CertificateError(WorkerRejectedError):
    """Client and worker do not secure their channel alike, or do not trust each other's."""
