"""Haystack: a ranker that orders the documents of any retriever by late interaction."""

from .ranker import TridexRanker

__all__ = ["TridexRanker"]
