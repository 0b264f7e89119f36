"""Haystack: a retriever over a `TridexDocumentStore`."""

from .retriever import TridexRetriever

__all__ = ["TridexRetriever"]
