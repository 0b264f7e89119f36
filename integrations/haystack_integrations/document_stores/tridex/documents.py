"""Haystack's documents as documents of a collection, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from haystack import Document

from tridex import client


def to_server(documents: Iterable[Document]) -> list[client.Document]:
    """What is written. The server encodes the content; embeddings that a document brings are not used.

    Raises ValueError for what is no document, has no text or has binary data.
    """
    return [_to_server(f"documents[{i}]", document) for i, document in enumerate(documents)]


def _to_server(place: str, document: Document) -> client.Document:
    if not isinstance(document, Document):
        raise ValueError(f"{place}: expected a Document, got {document!r}")  # noqa: TRY004 - Haystack's tests want it
    if document.content is None or document.blob is not None:
        raise ValueError(f"{place}: expected content that is text and no blob, got {document!r}")
    return client.Document(document.id, document.content, document.meta)


def from_server(stored: client.Document | client.Hit, **fields: Any) -> Document:
    """The document that was written, with further `fields` such as its score."""
    return Document(id=stored.id, content=stored.text, meta=dict(stored.metadata or {}), **fields)
