"""What a new collection is, and how its documents are read: the index keeps it, the encoding follows it."""

from __future__ import annotations

from tridex.encoding import Artifact, DocumentReading, Manifest
from tridex.index import CollectionSpec
from tridex.index.storage.fields import Fields
from tridex.kernels import Codec
from tridex.protocol.parameters import LongDocuments

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
    """A collection of this checkpoint's embeddings; None for its own document length.

    Raises ValueError for a length that the checkpoint cannot read documents in, and for a dim that is not the codec's.
    """
    manifest = artifact.manifest
    codec.code_bytes(manifest.dim)
    if document_length is not None:
        artifact.tokenizer().check_length(document_length)
    return CollectionSpec(
        manifest.dim,
        codec,
        manifest.fingerprint,
        fields or {},
        document_length=document_length or manifest.rules.document.length,
        windows=long_documents is LongDocuments.WINDOWS,
        pooling_factor=pooling_factor,
        checkpoint=manifest.parts,
    )


def document_reading(spec: CollectionSpec, manifest: Manifest) -> DocumentReading:
    """How documents of a collection are read."""
    length = spec.document_length or manifest.rules.document.length
    return DocumentReading(length, spec.windows, spec.pooling_factor)
