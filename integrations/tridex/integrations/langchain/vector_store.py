"""A vector store over one collection. The server encodes: there is no embedding to pass."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.structured_query import FilterDirective
from langchain_core.vectorstores import VectorStore

from tridex import client
from tridex.client.channel import DEFAULT_ADDRESS
from tridex.integrations.core.connection import Connection, connect
from tridex.integrations.core.errors import host_errors

from .searching import ERRORS, document, search_arguments

Filter = Mapping[str, Any] | FilterDirective


class TridexVectorStore(VectorStore):
    """A collection as LangChain's vector store.

        store = TridexVectorStore("docs", "localhost:8001")
        store.add_documents([Document("Late interaction keeps every token.", metadata={"year": 2020})])
        store.similarity_search("what does ColBERT keep?", k=5, filter={"year": {"$gte": 2020}})

    Every search takes the further arguments of `Client.search`, such as `mode` and `exact`, by the same names. A write
    makes the collection where it does not exist yet. Searches by a vector and for marginal relevance need one vector a
    text, which late interaction does not have: they raise NotImplementedError.

    Args:
        collection: A collection or an alias.
        connection: The server, as a Connection or an address.

    Raises:
        ValueError: For a wrong argument.
        LangChainException: For every other failure. Each is an error of `tridex.client`, too.
    """

    def __init__(self, collection: str, connection: Connection | str = DEFAULT_ADDRESS) -> None:
        self.collection = collection
        self.connection = connect(connection)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        collection: str = "",
        connection: Connection | str = DEFAULT_ADDRESS,
        **kwargs: Any,
    ) -> TridexVectorStore:
        """A store with these texts in its collection. `embedding` is not used, as the server encodes."""
        store = cls(collection, connection)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        collection: str = "",
        connection: Connection | str = DEFAULT_ADDRESS,
        **kwargs: Any,
    ) -> TridexVectorStore:
        """`from_texts`, awaited."""
        store = cls(collection, connection)
        await store.aadd_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Writes texts, replacing those of the same ids; the ids, made up where they are missing.

        Further arguments are those of `Client.upsert`, such as `batch_size` and `codec`.
        """
        documents = list(_documents(texts, metadatas, ids))
        with host_errors(ERRORS):
            self.connection.client.upsert(self.collection, documents, **kwargs)
        return [written.id for written in documents]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """`add_texts`, awaited."""
        documents = list(_documents(texts, metadatas, ids))
        with host_errors(ERRORS):
            await self.connection.async_client.upsert(self.collection, documents, **kwargs)
        return [written.id for written in documents]

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Removes the documents `ids`, or all of them; ids that do not exist are no error."""
        with host_errors(ERRORS):
            if ids is None:
                self.connection.client.clear(self.collection, **kwargs)
            else:
                self.connection.client.delete(self.collection, ids, **kwargs)
        return True

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """`delete`, awaited."""
        with host_errors(ERRORS):
            if ids is None:
                await self.connection.async_client.clear(self.collection, **kwargs)
            else:
                await self.connection.async_client.delete(self.collection, ids, **kwargs)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents `ids` that exist, in their order."""
        with host_errors(ERRORS):
            return _found(self.connection.client.get(self.collection, ids))

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """`get_by_ids`, awaited."""
        with host_errors(ERRORS):
            return _found(await self.connection.async_client.get(self.collection, ids))

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The `k` documents that score best; `filter` is what all of them fulfil."""
        return [found for found, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """`similarity_search`, awaited."""
        return [found for found, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Filter | None = None,  # noqa: A002 - LangChain's word
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """`similarity_search`, each document with its score: the larger, the better."""
        with host_errors(ERRORS):
            hits = self.connection.client.search(self.collection, query, **search_arguments(k, filter, kwargs))
        return [(document(hit), hit.score) for hit in hits]

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Filter | None = None,  # noqa: A002 - LangChain's word
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score`, awaited."""
        with host_errors(ERRORS):
            hits = await self.connection.async_client.search(
                self.collection, query, **search_arguments(k, filter, kwargs)
            )
        return [(document(hit), hit.score) for hit in hits]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Scores from 0 to 1, for `similarity_search_with_relevance_scores` and its `score_threshold`."""
        return self.similarity_search_with_score(query, k, normalize=True, **kwargs)

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return await self.asimilarity_search_with_score(query, k, normalize=True, **kwargs)


def _documents(
    texts: Iterable[str], metadatas: Iterable[dict[str, Any]] | None, ids: Iterable[str | None] | None
) -> Iterator[client.Document]:
    """Raises ValueError where there are more or fewer metadata or ids than texts."""
    listed = list(texts)
    every_id = list(repeat(None, len(listed)) if ids is None else ids)
    every_metadata = list(repeat({}, len(listed)) if metadatas is None else metadatas)
    for name, given in (("ids", every_id), ("metadatas", every_metadata)):
        if len(given) != len(listed):
            raise ValueError(f"{name}: expected one for each of {len(listed)} texts, got {len(given)}")
    for key, text, metadata in zip(every_id, listed, every_metadata, strict=True):
        yield client.Document(key or str(uuid.uuid4()), text, metadata or {})


def _found(documents: Iterable[client.Document | None]) -> list[Document]:
    return [
        Document(id=found.id, page_content=found.text, metadata=dict(found.metadata)) for found in documents if found
    ]
