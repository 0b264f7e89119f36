"""Texts to encode, as queries or as documents."""

from __future__ import annotations

from dataclasses import dataclass

from tridex.protocol import models
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request, Sender


@dataclass(frozen=True)
class EncodeRequest:
    """Texts whose token embeddings are wanted."""

    sender: Sender
    texts: list[str]
    as_queries: bool
    """Whether the texts are encoded as queries are; documents are encoded in another way."""
    input_name: str
    """The input that clients know the texts by, for messages."""

    @classmethod
    def parse_queries(cls, request: Request) -> EncodeRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        request.sender.timeline.is_about(models.ENCODE_QUERY.name)
        return cls(request.sender, fields.texts(request, models.QUERY_TO_ENCODE), True, models.QUERY.name)

    @classmethod
    def parse_documents(cls, request: Request) -> EncodeRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        request.sender.timeline.is_about(models.ENCODE_DOCUMENT.name)
        return cls(request.sender, fields.texts(request, models.DOCUMENT), False, models.DOCUMENT.name)
