"""Nodes as documents of a collection, and back.

The text is what is encoded and what comes back. A node's metadata are the document's, where filters find them; what
else it has (relationships, positions, templates) is kept beside them as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from tridex.client import Document, Hit, InvalidArgument
from tridex.common import TridexError
from tridex.integrations.core.filters import Condition, compare

ERRORS: Mapping[type[TridexError], type[Exception]] = {InvalidArgument: ValueError}
"""LlamaIndex has no base class of errors: the others stay those of the client."""

REF_DOC = "ref_doc_id"
"""The field that has the id of a node's source document."""

_REST = "_node"


def of_ref_doc(ref_doc_id: str) -> Condition:
    """Filters for the nodes of one source document."""
    return compare(REF_DOC, "==", ref_doc_id)


def document(node: BaseNode) -> Document:
    """The document that keeps a node; its id is the node's."""
    rest = node.model_dump(mode="json", exclude={"id_", "text", "text_resource", "metadata", "embedding"})
    metadata = {**node.metadata, _REST: {**rest, "class_name": node.class_name()}}
    if node.source_node:
        metadata[REF_DOC] = node.source_node.node_id
    return Document(node.node_id, node.get_content(MetadataMode.NONE), metadata)


def node(stored: Document | Hit) -> BaseNode:
    """The node that a document keeps; a TextNode for a document that LlamaIndex did not write."""
    metadata = dict(stored.metadata or {})
    rest = metadata.pop(_REST, None)
    if rest is None:
        return TextNode(id_=stored.id, text=stored.text or "", metadata=metadata)
    metadata.pop(REF_DOC, None)
    content = json.dumps({**rest, "id_": stored.id, "metadata": metadata})
    return metadata_dict_to_node({"_node_content": content, "_node_type": rest["class_name"]}, text=stored.text)


def scored(hits: Iterable[Hit]) -> list[NodeWithScore]:
    """Nodes with their scores, best first."""
    return [NodeWithScore(node=node(hit), score=hit.score) for hit in hits]


def hash_of_source(stored: Document | None) -> str | None:
    """The hash that a stored node's source document had."""
    source = None if stored is None else node(stored).source_node
    return None if source is None else source.hash
