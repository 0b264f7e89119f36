"""What the retriever and the vector store share: arguments of a search, documents of hits, LangChain's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from langchain_core.documents import Document
from langchain_core.exceptions import LangChainException
from langchain_core.structured_query import FilterDirective

from tridex.client import Hit, InvalidArgument
from tridex.common import TridexError

from .filters import server_filters

ERRORS: Mapping[type[TridexError], type[Exception]] = {InvalidArgument: ValueError, TridexError: LangChainException}


def search_arguments(
    k: int, given: Mapping[str, Any] | FilterDirective | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Keyword arguments of `Client.search`; `options` are those that have the same name there, such as `mode`."""
    return {**options, "top_k": k, "filters": server_filters(given)}


def document(hit: Hit) -> Document:
    """The document that was stored."""
    return Document(id=hit.id, page_content=hit.text or "", metadata=dict(hit.metadata or {}))


def scored(hit: Hit) -> Document:
    """The document that was stored, with `relevance_score` beside its metadata, and `spans` where it is explained."""
    found = document(hit)
    found.metadata["relevance_score"] = hit.score
    if hit.explanation:
        found.metadata["spans"] = [asdict(span) for span in hit.explanation.spans]
    return found
