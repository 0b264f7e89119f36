"""The index's errors as those of a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tridex.index import CollectionExistsError, CollectionNotFoundError, TokenIndexError

from .service import ErrorCode, RequestError, invalid


@contextmanager
def refusing() -> Iterator[None]:
    """Raises a RequestError where the index refuses what was asked of it."""
    try:
        yield
    except CollectionNotFoundError as error:
        raise RequestError(ErrorCode.NOT_FOUND, str(error)) from error
    except CollectionExistsError as error:
        raise RequestError(ErrorCode.ALREADY_EXISTS, str(error)) from error
    except TokenIndexError as error:
        raise invalid(str(error)) from error
