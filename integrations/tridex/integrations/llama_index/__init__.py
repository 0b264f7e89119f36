"""LlamaIndex: a managed index, a retriever and a node postprocessor over a Tridex server.

TridexIndex        nodes in, `as_retriever` and `as_query_engine` out          (index.py)
TridexRetriever    the best nodes of a collection, whoever wrote it            (retriever.py)
TridexRerank       orders nodes that another retriever found                   (rerank.py)

There is no vector store: LlamaIndex hands a vector store one vector a query, and late interaction needs one a token.
"""

from tridex.integrations.core.errors import require

require("llama_index.core", extra="llamaindex")

from .index import TridexIndex  # noqa: E402 - after the check
from .rerank import TridexRerank  # noqa: E402
from .retriever import TridexRetriever  # noqa: E402

__all__ = ["TridexIndex", "TridexRerank", "TridexRetriever"]
