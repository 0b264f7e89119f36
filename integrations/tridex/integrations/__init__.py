"""Adapters to the frameworks that RAG applications are written in, one package each.

langchain      TridexRetriever, TridexVectorStore, TridexRerank          extra tridex[langchain]
llama_index    TridexIndex, TridexRetriever, TridexRerank                extra tridex[llamaindex]
Haystack       in `haystack_integrations`, where it loads pipelines from  extra tridex[haystack]

All of them talk to a running server through a `Connection`.
"""

from .core.connection import Connection

__all__ = ["Connection"]
