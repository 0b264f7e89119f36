"""LangChain: a retriever, a vector store and a document compressor over a Tridex server.

TridexRetriever      the best documents of a collection, with their scores          (retriever.py)
TridexVectorStore    the collection to write to and to search                       (vector_store.py)
TridexRerank         orders documents that another retriever found                  (rerank.py)
TridexTranslator     the filters of a SelfQueryRetriever                            (filters.py)
"""

from tridex.integrations.core.errors import require

require("langchain_core", extra="langchain")

from .filters import TridexTranslator  # noqa: E402 - after the check
from .rerank import TridexRerank  # noqa: E402
from .retriever import TridexRetriever  # noqa: E402
from .vector_store import TridexVectorStore  # noqa: E402

__all__ = ["TridexRerank", "TridexRetriever", "TridexTranslator", "TridexVectorStore"]
