"""Documents as rows of a collection's dataset, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tridex.index.errors import InvalidDocumentError
from tridex.kernels import Codebook

from .fields import column_values, is_column, short
from .metadata import decoded, encoded
from .spec import CollectionSpec

DOCUMENT_COLUMNS = ("id", "text", "metadata")


@dataclass(frozen=True)
class Document:
    """A document as the user gave it."""

    id: str
    text: str
    metadata: dict[str, Any]


def encode_documents(
    documents: Sequence[Document],
    embeddings: Iterable[NDArray[np.float32]],
    spec: CollectionSpec,
    codebook: Codebook | None,
    schema: pa.Schema,
) -> pa.Table:
    """The rows of documents.

    Args:
        documents: Of distinct ids.
        embeddings: Each document's token embeddings, float32 [tokens, dim].
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
    tokens, codes = [], []
    for document, array in zip(documents, embeddings, strict=True):
        if array.ndim != 2 or array.shape[1] != spec.dim:
            raise InvalidDocumentError(
                f"embeddings of {document.id!r} have shape {array.shape}; expected [tokens, {spec.dim}]"
            )
        try:
            codes.append(spec.codec.encode(array, codebook).tobytes())
        except ValueError as error:
            raise InvalidDocumentError(f"embeddings of {document.id!r}: {error}") from error
        tokens.append(len(array))
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
