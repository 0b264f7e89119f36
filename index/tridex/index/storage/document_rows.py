"""Documents as rows of a collection's dataset, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tridex.common.fields import short
from tridex.index.errors import InvalidDocumentError

from .fields import column_values, is_column
from .metadata import decoded, encoded
from .spec import CollectionSpec

if TYPE_CHECKING:
    from tridex.kernels import Codebook, TokenEmbeddings

DOCUMENT_COLUMNS = ("id", "text", "metadata")

_TOKENS_TOGETHER = 1 << 12
"""Of documents whose codes are made together: 2 MiB of float32 at 128 dimensions, which stay in the caches."""

_TOKENS_TOGETHER_ON_GPU = 1 << 16
"""32 MiB: each operation is launched, and each copy to the host waited for."""


@dataclass(frozen=True)
class Document:
    """A document as the user gave it."""

    id: str
    text: str
    metadata: dict[str, Any]


def encode_documents(
    documents: Sequence[Document],
    embeddings: Iterable[TokenEmbeddings],
    spec: CollectionSpec,
    codebook: Codebook | None,
    schema: pa.Schema,
) -> pa.Table:
    """The rows of documents.

    Args:
        documents: Of distinct ids.
        embeddings: Each document's token embeddings, float32 [tokens, dim]; those of all on the host, or on one device.
        spec: The collection's.
        codebook: What a residual codec encodes with.
        schema: The dataset's, as `schema_of` made it.

    Raises:
        InvalidDocumentError: An id comes twice, an array is not finite or not [tokens, dim], or as check_metadata.
    """
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise InvalidDocumentError(f"id {document.id!r} comes twice in one upsert; expected distinct ids")
        seen.add(document.id)
    codes, tokens = _encoded(documents, embeddings, spec, codebook)
    fields = field_columns(documents, spec, schema)
    return pa.table(
        {
            "id": [document.id for document in documents],
            "text": [document.text for document in documents],
            "metadata": [encoded(document.id, document.metadata) for document in documents],
            "tokens": tokens,
            "codes": codes,
            **fields,
        },
        schema=schema,
    )


def _encoded(
    documents: Sequence[Document],
    embeddings: Iterable[TokenEmbeddings],
    spec: CollectionSpec,
    codebook: Codebook | None,
) -> tuple[pa.ChunkedArray, list[int]]:
    """Each document's codes as one value, and its number of tokens. Some documents are encoded together: the codec's
    operations are as many for one as for all."""
    chunks: list[pa.LargeBinaryArray] = []
    tokens: list[int] = []
    together: list[TokenEmbeddings] = []
    waiting = 0
    for document, array in zip(documents, embeddings, strict=True):
        if array.ndim != 2 or array.shape[1] != spec.dim:
            raise InvalidDocumentError(
                f"embeddings of {document.id!r} have shape {tuple(array.shape)}; expected [tokens, {spec.dim}]"
            )
        together.append(array)
        tokens.append(len(array))
        waiting += len(array)
        enough = _TOKENS_TOGETHER if isinstance(array, np.ndarray) else _TOKENS_TOGETHER_ON_GPU
        if waiting >= enough or len(tokens) == len(documents):
            chunks.append(_codes(documents[len(tokens) - len(together) : len(tokens)], together, spec, codebook))
            together, waiting = [], 0
    return pa.chunked_array(chunks, pa.large_binary()), tokens


def _codes(
    documents: Sequence[Document],
    embeddings: Sequence[TokenEmbeddings],
    spec: CollectionSpec,
    codebook: Codebook | None,
) -> pa.LargeBinaryArray:
    """The codes of documents, each a value. Raises InvalidDocumentError for the first that the codec refuses."""
    from tridex.kernels import concatenated, encode  # and torch, which processes that write nothing do without

    try:
        codes = encode(spec.codec, concatenated(embeddings), codebook)
    except ValueError as error:
        if len(documents) == 1:
            raise InvalidDocumentError(f"embeddings of {documents[0].id!r}: {error}") from error
        for document, array in zip(documents, embeddings, strict=True):
            _codes([document], [array], spec, codebook)
        raise
    ends = np.cumsum([0, *map(len, embeddings)], dtype=np.int64) * codes.shape[1]
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(embeddings), [None, pa.py_buffer(ends), pa.py_buffer(codes)]
    )


def field_columns(documents: Sequence[Document], spec: CollectionSpec, schema: pa.Schema) -> dict[str, pa.Array]:
    """The columns of a dataset's fields; those that no field has any more hold nothing. Raises InvalidDocumentError."""
    values = [column_values(spec.fields, document.id, document.metadata) for document in documents]
    own = {spec.columns[name]: [row[i] for row in values] for i, name in enumerate(spec.fields)}
    nothing = [None] * len(documents)
    return {name: pa.array(own.get(name, nothing), schema.field(name).type) for name in schema.names if is_column(name)}


def encode_metadata(
    documents: Sequence[Document], spec: CollectionSpec, schema: pa.Schema, most_bytes: int | None
) -> pa.Table:
    """The ids of documents and all columns that follow from their metadata.

    Raises InvalidDocumentError as check_metadata, and where metadata has more bytes than `most_bytes`.
    """
    texts = [encoded(document.id, document.metadata) for document in documents]
    for document, text in zip(documents, texts, strict=True):
        if most_bytes is not None and (size := len(text.encode())) > most_bytes:
            raise InvalidDocumentError(
                f"metadata of document {short(document.id)} would have {size} bytes; expected at most {most_bytes}"
            )
    columns = {
        "id": [document.id for document in documents],
        "metadata": texts,
        **field_columns(documents, spec, schema),
    }
    return pa.table(columns, schema=pa.schema([schema.field(name) for name in columns]))


def decode_documents(rows: pa.Table) -> list[Document]:
    """The documents of rows with the columns DOCUMENT_COLUMNS; without texts where that column is missing."""
    return [Document(row["id"], row.get("text", ""), decoded(row["metadata"])) for row in rows.to_pylist()]
