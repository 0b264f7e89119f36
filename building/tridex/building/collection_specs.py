"""What a new collection is, and how its documents are read: the index keeps it, the encoding follows it."""

from __future__ import annotations

from tridex.encoding import Artifact, DocumentReading, Manifest
from tridex.index import CollectionSpec, Fields
from tridex.kernels import Codec
from tridex.protocol.parameters import LongDocuments

from .errors import InvalidSpecError

DEFAULT_CODEC = Codec.FLOAT16


def new_collection_spec(
    artifact: Artifact,
    codec: Codec = DEFAULT_CODEC,
    fields: Fields | None = None,
    *,
    document_length: int | None = None,
    long_documents: LongDocuments = LongDocuments.WINDOWS,
    pooling_factor: int = 1,
) -> CollectionSpec:
    """The specification of a collection of this checkpoint's embeddings.

    Args:
        artifact: The exported checkpoint.
        codec: How token embeddings are stored.
        fields: The metadata fields that filters can ask for; None to infer them from the first documents.
        document_length: Most tokens that the encoder reads at once; None for the checkpoint's own.
        long_documents: What becomes of longer documents.
        pooling_factor: One token embedding is kept for this many.

    Raises:
        InvalidSpecError: The checkpoint cannot read documents in that length, or the codec cannot hold its dimensions.
    """
    manifest = artifact.manifest
    try:
        codec.code_bytes(manifest.dim)
        if document_length is not None:
            artifact.tokenizer().check_length(document_length)
    except ValueError as error:
        raise InvalidSpecError(str(error)) from error
    return CollectionSpec(
        manifest.dim,
        codec,
        manifest.fingerprint,
        fields or {},
        document_length=document_length or manifest.rules.document.length,
        windows=long_documents is LongDocuments.WINDOWS,
        pooling_factor=pooling_factor,
        checkpoint=manifest.component_hashes,
        infers_fields=fields is None,
    )


def document_reading(spec: CollectionSpec, manifest: Manifest) -> DocumentReading:
    """How documents of a collection are read."""
    length = spec.document_length or manifest.rules.document.length
    return DocumentReading(length, spec.windows, spec.pooling_factor)
