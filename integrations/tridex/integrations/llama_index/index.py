"""A managed index over one collection: the server keeps the nodes, and nothing is kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.managed.base import BaseManagedIndex
from llama_index.core.ingestion import run_transformations
from llama_index.core.schema import BaseNode, Document, TransformComponent
from llama_index.core.settings import Settings
from llama_index.core.storage.storage_context import StorageContext

from tridex import client
from tridex.client.channel import DEFAULT_ADDRESS
from tridex.integrations.core.connection import Connection, connect
from tridex.integrations.core.errors import host_errors

from .nodes import ERRORS, REF_DOC, document, hash_of_source, of_ref_doc
from .retriever import TridexRetriever


class TridexIndex(BaseManagedIndex):
    """A collection as LlamaIndex's index.

        index = TridexIndex.from_documents(documents, collection="docs", connection="localhost:8001")
        index.as_query_engine(llm=llm, similarity_top_k=5).query("what does ColBERT keep?")
        index.refresh_ref_docs(documents)

    `TridexIndex("docs")` is the index over a collection that exists. A write makes the collection where it does not
    exist yet. Only the texts of nodes are encoded, without their metadata; embeddings of nodes are not used.

    Args:
        collection: A collection or an alias.
        connection: The server, as a Connection or an address.
        nodes: Nodes to write first.
        transformations: What makes nodes of documents; LlamaIndex's settings where left out.
        callback_manager: LlamaIndex's.
        show_progress: Show bars where documents are cut and nodes are written.

    Raises:
        ValueError: For a wrong argument, an InvalidArgument of the client, too. Every other error is the client's own.
    """

    index_struct_cls = IndexDict

    def __init__(
        self,
        collection: str,
        connection: Connection | str = DEFAULT_ADDRESS,
        *,
        nodes: Sequence[BaseNode] | None = None,
        transformations: list[TransformComponent] | None = None,
        callback_manager: CallbackManager | None = None,
        show_progress: bool = False,
    ) -> None:
        self.collection = collection
        self.connection = connect(connection)
        super().__init__(
            index_struct=IndexDict(),
            transformations=transformations,
            callback_manager=callback_manager,
            show_progress=show_progress,
        )
        self.insert_nodes(nodes or [])

    @classmethod
    def from_documents(  # type: ignore[override]  # the collection's name has to be given
        cls,
        documents: Sequence[Document],
        storage_context: StorageContext | None = None,
        show_progress: bool = False,
        callback_manager: CallbackManager | None = None,
        transformations: list[TransformComponent] | None = None,
        *,
        collection: str,
        connection: Connection | str = DEFAULT_ADDRESS,
    ) -> TridexIndex:
        """An index with these documents, cut into nodes by `transformations`. `storage_context` is not used."""
        nodes = run_transformations(documents, transformations or Settings.transformations, show_progress=show_progress)
        return cls(
            collection,
            connection,
            nodes=nodes,
            transformations=transformations,
            callback_manager=callback_manager,
            show_progress=show_progress,
        )

    def insert_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> None:
        """Writes nodes, replacing those of the same ids. Arguments are those of `Client.upsert`."""
        self._insert(nodes, **insert_kwargs)

    async def ainsert_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> None:
        """`insert_nodes`, awaited."""
        with host_errors(ERRORS):
            await self.connection.async_client.upsert(self.collection, map(document, nodes), **insert_kwargs)

    def delete_nodes(self, node_ids: list[str], delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """Removes nodes. `delete_from_docstore` has no meaning here: there is no other store."""
        with host_errors(ERRORS):
            self.connection.client.delete(self.collection, node_ids, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str], delete_from_docstore: bool = False, **delete_kwargs: Any
    ) -> None:
        """`delete_nodes`, awaited."""
        with host_errors(ERRORS):
            await self.connection.async_client.delete(self.collection, node_ids, **delete_kwargs)

    def delete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """Removes the nodes of a document, if there are any."""
        with host_errors(ERRORS):
            if self._stored_node(ref_doc_id):
                self.connection.client.delete(self.collection, filters=of_ref_doc(ref_doc_id), **delete_kwargs)

    async def adelete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """`delete_ref_doc`, awaited."""
        with host_errors(ERRORS):
            if await self._astored_node(ref_doc_id):
                matching = of_ref_doc(ref_doc_id)
                await self.connection.async_client.delete(self.collection, filters=matching, **delete_kwargs)

    def update_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """Removes the nodes of a document and writes its new ones."""
        BaseIndex.update_ref_doc(self, document, **update_kwargs)

    def refresh_ref_docs(self, documents: Sequence[Document], **update_kwargs: Any) -> list[bool]:
        """Writes the documents that are new or have changed since, by the hashes that the server keeps; which ones."""
        with host_errors(ERRORS):
            return [self._refresh(document, **update_kwargs) for document in documents]

    async def arefresh_ref_docs(self, documents: Sequence[Document], **update_kwargs: Any) -> list[bool]:
        """`refresh_ref_docs`, awaited."""
        with host_errors(ERRORS):
            return [await self._arefresh(document, **update_kwargs) for document in documents]

    def as_retriever(self, **kwargs: Any) -> BaseRetriever:
        """A retriever on the same connection. Takes `similarity_top_k`, `filters` and `search_options`.

        Others are not for the retriever: `as_query_engine` hands over all that it was given.
        """
        own = {name: kwargs[name] for name in ("similarity_top_k", "filters", "search_options") if name in kwargs}
        return TridexRetriever(self.collection, self.connection, callback_manager=self._callback_manager, **own)

    def _insert(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> None:
        with host_errors(ERRORS):
            self.connection.client.upsert(self.collection, map(document, nodes), **insert_kwargs)

    def _refresh(self, given: Document, **update_kwargs: Any) -> bool:
        changed = hash_of_source(self._stored_node(given.id_)) != given.hash
        if changed:
            self.update_ref_doc(given, **update_kwargs)
        return changed

    async def _arefresh(self, given: Document, **update_kwargs: Any) -> bool:
        changed = hash_of_source(await self._astored_node(given.id_)) != given.hash
        if changed:
            await self.aupdate_ref_doc(given, **update_kwargs)
        return changed

    def _stored_node(self, ref_doc_id: str) -> client.Document | None:
        """One of a document's nodes; none where the collection does not exist."""
        try:
            fields = self.connection.client.describe_collection(self.collection).fields
        except client.NotFound:
            return None
        if REF_DOC not in fields:  # it infers no fields, or had many documents before its first node
            self.connection.client.add_fields(self.collection, {REF_DOC: "str"})
        page = self.connection.client.scroll(self.collection, filters=of_ref_doc(ref_doc_id), limit=1)
        return next(iter(page), None)

    async def _astored_node(self, ref_doc_id: str) -> client.Document | None:
        try:
            fields = (await self.connection.async_client.describe_collection(self.collection)).fields
        except client.NotFound:
            return None
        if REF_DOC not in fields:
            await self.connection.async_client.add_fields(self.collection, {REF_DOC: "str"})
        page = await self.connection.async_client.scroll(self.collection, filters=of_ref_doc(ref_doc_id), limit=1)
        return next(iter(page), None)
