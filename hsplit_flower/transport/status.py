"""Our errors as gRPC status codes, and back.

The catalogue is read in order: the first class that an error is an instance of gives the code. The
class's own name travels along, so that the other side raises the same one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from .. import errors
from ..errors import HSplitError, OutOfBudgetError
from ..wire.error_text import one_line, read_error

ERROR_NAME_KEY = "hsplit-error"

_Code = grpc.StatusCode
CATALOGUE: tuple[tuple[type[HSplitError], grpc.StatusCode], ...] = (
    (errors.AuthenticationError, _Code.UNAUTHENTICATED),
    (errors.CodecError, _Code.INVALID_ARGUMENT),
    (errors.SplitError, _Code.INVALID_ARGUMENT),
    (errors.AdapterError, _Code.INVALID_ARGUMENT),
    (errors.ConfigError, _Code.INVALID_ARGUMENT),
    (errors.DataError, _Code.INVALID_ARGUMENT),
    (errors.MetricsUnavailableError, _Code.FAILED_PRECONDITION),
    (errors.UnsupportedModelError, _Code.INVALID_ARGUMENT),
    (errors.InfeasibleBudgetError, _Code.FAILED_PRECONDITION),
    (errors.OutOfBudgetError, _Code.FAILED_PRECONDITION),
    (errors.NoCardError, _Code.FAILED_PRECONDITION),
    (errors.LeaseError, _Code.FAILED_PRECONDITION),
    (errors.NonFiniteError, _Code.FAILED_PRECONDITION),
    (errors.StorageError, _Code.FAILED_PRECONDITION),
    (errors.NodesMissingError, _Code.FAILED_PRECONDITION),
    (errors.WorkerUnavailableError, _Code.UNAVAILABLE),
    (errors.CertificateError, _Code.UNAUTHENTICATED),
    (errors.WorkerRejectedError, _Code.FAILED_PRECONDITION),
    (errors.TransportError, _Code.INTERNAL),
    (HSplitError, _Code.INTERNAL),
)
_MAY_BE_TRIED_AGAIN = (_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED, _Code.CANCELLED)
_BY_NAME = {error.__name__: error for error, _ in CATALOGUE}


def status_of(error: HSplitError) -> grpc.StatusCode:
    """The status code that an error travels under."""
    return next(code for kind, code in CATALOGUE if isinstance(error, kind))


def error_from(call: grpc.RpcError) -> HSplitError:
    """The error that a failed call stands for."""
    code, details = call.code(), one_line(call.details() or "no details")
    for key, value in call.trailing_metadata() or ():
        if key == ERROR_NAME_KEY and value in _BY_NAME:
            return _made_again(_BY_NAME[value], details)
    if code in _MAY_BE_TRIED_AGAIN:
        return errors.WorkerUnavailableError(
            f"the split worker did not answer: {details} ({code.name})"
        )
    if code is _Code.UNAUTHENTICATED:
        return errors.AuthenticationError(details)
    if code is _Code.RESOURCE_EXHAUSTED:
        return errors.WorkerRejectedError(
            f"a message is over the limit: {details}; send smaller batches or raise max-message-mb"
        )
    if code is _Code.UNIMPLEMENTED:
        return errors.WorkerRejectedError(
            f"what answers there is no split worker of this version: {details}"
        )
    return errors.WorkerRejectedError(f"the split worker failed: {details} ({code.name})")


@contextmanager
def raised_as_ours() -> Iterator[None]:
    """On the caller's side: turn a failed call into one of our errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_from(error) from error


def _made_again(kind: type[HSplitError], details: str) -> HSplitError:
    return read_error(details) if kind is OutOfBudgetError else kind(details)
