"""Texts to score against a query."""

from __future__ import annotations

from dataclasses import dataclass

from tridex.protocol import labels, limits, models
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request, Sender, invalid


@dataclass(frozen=True)
class RerankRequest:
    """A query, and texts that are scored in the order given."""

    sender: Sender
    query: str
    texts: list[str]

    @classmethod
    def parse(cls, request: Request) -> RerankRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        request.sender.timeline.is_about(labels.RERANK_TEXTS)
        query, *others = fields.texts(request, models.QUERY_TO_RERANK)
        texts = fields.texts(request, models.RERANK_TEXTS)
        if others:
            raise invalid(f"input {models.QUERY.name} holds {1 + len(others)} queries to rerank by; expected one")
        if not 0 < len(texts) <= limits.MAX_CANDIDATES:
            raise invalid(
                f"input {models.RERANK_TEXTS.name} holds {len(texts)} texts; expected 1 to {limits.MAX_CANDIDATES}"
            )
        return cls(request.sender, query, texts)
