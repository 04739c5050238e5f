"""Every error of ours has a status and comes back as itself; those of others tell nothing."""

from collections.abc import Iterator

import grpc
import pytest

from hsplit_flower import errors
from hsplit_flower.errors import HSplitError, OutOfBudgetError
from hsplit_flower.transport.refusals import Refusal
from hsplit_flower.transport.status import (
    CATALOGUE,
    ERROR_NAME_KEY,
    error_from,
    raised_as_ours,
    status_of,
)

Code = grpc.StatusCode


def _tree(root: type[HSplitError]) -> Iterator[type[HSplitError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


OURS = [kind for kind in _tree(HSplitError) if kind.__module__ == errors.__name__]


class Failed(grpc.RpcError):
    """The calling side's view of a call that failed."""

    def __init__(
        self, code: grpc.StatusCode, details: str | None, trailing: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__()
        self._answers = (code, details, trailing)

    def code(self) -> grpc.StatusCode:
        return self._answers[0]

    def details(self) -> str | None:
        return self._answers[1]

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._answers[2]


def _across(error: HSplitError) -> HSplitError:
    """What the caller gets when a handler raises ``error``."""
    refusal = Refusal.of(error)
    with pytest.raises(HSplitError) as caught, raised_as_ours():
        raise Failed(refusal.code, refusal.details, refusal.trailers)
    return caught.value


def test_the_catalogue_holds_every_error() -> None:
    assert {kind for kind, _ in CATALOGUE} == set(OURS)
    assert len(OURS) >= 13


def test_no_error_is_hidden_by_one_that_stands_before_it() -> None:
    for index, (kind, _) in enumerate(CATALOGUE):
        assert not any(issubclass(kind, earlier) for earlier, _ in CATALOGUE[:index])


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind is not OutOfBudgetError])
def test_an_error_of_ours_comes_back_as_itself(kind: type[HSplitError]) -> None:
    got = _across(kind("what was got, what was wanted"))
    assert type(got) is kind
    assert str(got) == "what was got, what was wanted"


def test_bytes_that_were_too_many_come_back_as_numbers() -> None:
    sent = OutOfBudgetError(predicted_bytes=5e8, measured_bytes=7e8, budget_bytes=6e8)
    got = _across(sent)
    assert isinstance(got, OutOfBudgetError)
    assert vars(got) == vars(sent)
    assert str(got) == str(sent)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.AuthenticationError, Code.UNAUTHENTICATED),
        (errors.CodecError, Code.INVALID_ARGUMENT),
        (errors.AdapterError, Code.INVALID_ARGUMENT),
        (errors.SplitError, Code.INVALID_ARGUMENT),
        (errors.NonFiniteError, Code.FAILED_PRECONDITION),
        (errors.WorkerRejectedError, Code.FAILED_PRECONDITION),
        (errors.WorkerUnavailableError, Code.UNAVAILABLE),
        (HSplitError, Code.INTERNAL),
    ],
)
def test_statuses(kind: type[HSplitError], code: grpc.StatusCode) -> None:
    assert status_of(kind("")) is code


def test_a_kind_of_error_that_is_new_travels_as_its_parent() -> None:
    class New(errors.CodecError):
        pass

    assert type(_across(New("news"))) is errors.CodecError


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (Code.UNAVAILABLE, errors.WorkerUnavailableError, "did not answer: the reason"),
        (Code.DEADLINE_EXCEEDED, errors.WorkerUnavailableError, "DEADLINE_EXCEEDED"),
        (Code.CANCELLED, errors.WorkerUnavailableError, "CANCELLED"),
        (Code.UNAUTHENTICATED, errors.AuthenticationError, "the reason"),
        (Code.RESOURCE_EXHAUSTED, errors.WorkerRejectedError, "over the limit: .*max-message-mb"),
        (Code.UNIMPLEMENTED, errors.WorkerRejectedError, "no split worker of this version"),
        (Code.INTERNAL, errors.WorkerRejectedError, "the reason"),
    ],
)
def test_a_status_that_grpc_gives_itself(
    code: grpc.StatusCode, kind: type[HSplitError], message: str
) -> None:
    error = error_from(Failed(code, "the reason"))
    assert type(error) is kind
    with pytest.raises(kind, match=message):
        raise error


def test_every_status_is_an_error_of_ours() -> None:
    for code in Code:
        assert isinstance(error_from(Failed(code, None)), errors.TransportError)


def test_a_name_that_is_no_error_of_ours_is_not_believed() -> None:
    trailing = ((ERROR_NAME_KEY, "SystemExit"),)
    assert type(error_from(Failed(Code.INTERNAL, "x", trailing))) is errors.WorkerRejectedError
