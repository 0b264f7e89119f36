"""Errors of the client as Haystack's."""

from __future__ import annotations

from contextlib import AbstractContextManager

from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.errors import FilterError

from tridex.client import AlreadyExists, InvalidArgument
from tridex.common import TridexError
from tridex.integrations.core.errors import host_errors


def store_errors(filtered: bool = False) -> AbstractContextManager[None]:
    """Errors of a request with filters are FilterErrors where an argument is wrong, ValueErrors without."""
    types: dict[type[TridexError], type[Exception]] = {
        InvalidArgument: FilterError if filtered else ValueError,
        AlreadyExists: DuplicateDocumentError,
        TridexError: DocumentStoreError,
    }
    return host_errors(types)
