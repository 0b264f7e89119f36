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

from .fields import column_values, columns
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
    values = [column_values(spec.fields, document.id, document.metadata) for document in documents]
    return pa.table(
        {
            "id": [document.id for document in documents],
            "text": [document.text for document in documents],
            "metadata": [encoded(document.id, document.metadata) for document in documents],
            "tokens": tokens,
            "codes": codes,
            **{column: [row[i] for row in values] for i, column in enumerate(columns(spec.fields).values())},
        },
        schema=schema,
    )


def decode_documents(rows: pa.Table) -> list[Document]:
    """The documents of rows with the columns DOCUMENT_COLUMNS."""
    return [Document(row["id"], row["text"], decoded(row["metadata"])) for row in rows.to_pylist()]
