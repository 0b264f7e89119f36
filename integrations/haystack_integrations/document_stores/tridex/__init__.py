"""Haystack: a document store over a Tridex server.

The retriever and the ranker are `haystack_integrations.components.retrievers.tridex` and `...rankers.tridex`: Haystack
loads pipelines from modules below `haystack_integrations` alone.
"""

from tridex.integrations.core.errors import require

require("haystack", extra="haystack")

from .document_store import TridexDocumentStore  # noqa: E402 - after the check

__all__ = ["TridexDocumentStore"]
