"""Haystack's documents as documents of a collection, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haystack import Document

from tridex import client


def to_server(documents: Sequence[Document]) -> list[client.Document]:
    """What is written. The server encodes the content; embeddings that a document brings are not used.

    Raises ValueError for what is no document, has no text or has binary data.
    """
    if isinstance(documents, str) or not all(isinstance(document, Document) for document in documents):
        raise ValueError(f"documents: expected a list of Documents, got {documents!r}")
    for document in documents:
        if document.content is None or document.blob is not None:
            raise ValueError(f"documents: expected content that is text and no blob, got {document!r}")
    return [client.Document(document.id, document.content or "", document.meta) for document in documents]


def from_server(stored: client.Document | client.Hit, **fields: Any) -> Document:
    """The document that was written, with further `fields` such as its score."""
    return Document(id=stored.id, content=stored.text, meta=dict(stored.metadata or {}), **fields)
