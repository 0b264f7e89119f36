"""The index's errors as those of a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tridex.index import (
    CollectionExistsError,
    CollectionNotFoundError,
    CorruptCollectionError,
    MemoryBudgetError,
    ReadOnlyStoreError,
    StoreFullError,
    StoreUnavailableError,
    TokenIndexError,
)

from .service import ErrorCode, RequestError


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises the errors of the index as RequestErrors."""
    try:
        yield
    except TokenIndexError as error:
        raise request_error(error) from error


def request_error(error: BaseException) -> RequestError:
    """An error of the index as one of a request; INTERNAL for an error that is none of the index's own."""
    match error:
        case CollectionNotFoundError():
            code = ErrorCode.NOT_FOUND
        case CollectionExistsError():
            code = ErrorCode.ALREADY_EXISTS
        case MemoryBudgetError() | StoreFullError():
            code = ErrorCode.RESOURCE_EXHAUSTED
        case ReadOnlyStoreError():
            code = ErrorCode.READ_ONLY
        case StoreUnavailableError():
            code = ErrorCode.UNAVAILABLE
        case CorruptCollectionError():
            code = ErrorCode.INTERNAL
        case TokenIndexError():
            code = ErrorCode.INVALID_ARGUMENT
        case _:
            code = ErrorCode.INTERNAL
    return RequestError(code, str(error), error.told if isinstance(error, TokenIndexError) else None)
