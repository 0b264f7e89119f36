"""What every document of a collection has in common, and how the dataset's schema keeps it: the store format.

A collection's specification is JSON in the metadata of its dataset's schema, under the key `tridex`. Its `format` is
the version of the store format:

    1    one Lance dataset per collection directly in the store's folder, without a registry; not read any more
    2    no specification of how documents are read: they were cut at the checkpoint's own length
    3    the checkpoint's fingerprint alone, without the hashes of its parts
    4    fields were fixed when the collection was made: their columns are field_0, field_1, ... in their order.
         Residual codecs: centroids in float16 (codebook_file.py)
    5    this version's

The policy:

- A collection keeps the format that it was made with, and everything it needs is in its folder. Nothing converts a
  store: an older format is read as it was written, and written to in that format. What changes a collection's fields
  writes the specification anew, in this version's format.
- The number rises with every change of the specification or of the rows, so that an older Tridex refuses what it might
  misread. A key that is added has a default that means what its absence meant.
- A collection of a format that this version does not read is refused with that number, and the others are served. Its
  files are not touched. The registry's files have no number: one with a key that this version does not know is refused
  in the same way.
- A format that is read is covered by a test: tests/index/test_spec.py for the specification, and a store of each older
  format, written by the code of then (tests/data), which is read, searched, written to
  (tests/index/test_store_compatibility.py), given fields, checked, backed up and restored. How a collection gets a
  newer format is in docs/guides/backup.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import lance
import pyarrow as pa

from tridex.common.fields import Fields
from tridex.index.errors import CheckpointMismatchError, TokenIndexError
from tridex.kernels import Codec

from .fields import arrow_type, declared_fields, first_columns

_SPEC_KEY = "tridex"
_FORMAT = 5
_READABLE = (2, 3, 4, _FORMAT)


@dataclass(frozen=True)
class CollectionSpec:
    """What every document of a collection has in common; fixed when the collection is created, but for its fields.

    Attributes:
        dim: Numbers of a token embedding.
        codec: How token embeddings are stored.
        fingerprint: The checkpoint that made the token embeddings: SHA-256 of all its files.
        fields: The metadata fields that filters can ask for, by name.
        document_length: Most tokens that the encoder reads of a document, or of each window of it; None for the
            checkpoint's own length.
        windows: Whether a longer document is read in several windows; where not, it is cut.
        pooling_factor: One token is kept for this many that the encoder made.
        codebook: SHA-256 of the residual codecs' codebook; None for the other codecs.
        checkpoint: SHA-256 of each component of the checkpoint (weights, tokenizer, rules); empty in older collections.
        columns: The store's column of each field, by the field's name; those of a new collection where left out.
        infers_fields: Whether fields are inferred from the collection's first documents (inference.py).
        format: The store format that it was made with.
    """

    dim: int
    codec: Codec
    fingerprint: str
    fields: Fields = field(default_factory=dict)
    document_length: int | None = None
    windows: bool = False
    pooling_factor: int = 1
    codebook: str | None = None
    checkpoint: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    infers_fields: bool = False
    format: int = _FORMAT

    def __post_init__(self) -> None:
        if not self.columns:
            object.__setattr__(self, "columns", first_columns(self.fields))

    def check_checkpoint(self, name: str, fingerprint: str, components: Mapping[str, str]) -> None:
        """Checks that a collection was made with the checkpoint that is served.

        Args:
            name: The collection's, for the message.
            fingerprint: The served checkpoint's.
            components: SHA-256 of each of its components, by name.

        Raises:
            CheckpointMismatchError: It was made with another one; the message says which components differ.
        """
        if fingerprint == self.fingerprint:
            return
        other = " and ".join(key for key, sha256 in self.checkpoint.items() if components.get(key) != sha256)
        raise CheckpointMismatchError(
            f"collection {name!r} was indexed with checkpoint {_described(self.fingerprint, self.checkpoint)}, the "
            f"served encoder is {_described(fingerprint, components)}{other and f', another in {other}'}: index the "
            "documents into another collection, or serve that checkpoint"
        )


def _described(fingerprint: str, components: Mapping[str, str]) -> str:
    hashes = ", ".join(f"{key} {sha256[:12]}" for key, sha256 in components.items())
    return f"{fingerprint[:12]} ({hashes})" if hashes else fingerprint[:12]


def schema_of(spec: CollectionSpec) -> pa.Schema:
    """The columns of a collection's dataset, with the specification in the metadata."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("text", pa.large_string(), nullable=False),
            pa.field("metadata", pa.large_string(), nullable=False),
            pa.field("tokens", pa.int32(), nullable=False),
            # One document's codes, [tokens, bytes per token], row after row.
            pa.field("codes", pa.large_binary(), nullable=False),
            *(pa.field(column, arrow_type(spec.fields[name])) for name, column in spec.columns.items()),
        ],
        metadata=written(spec),
    )


def written(spec: CollectionSpec) -> dict[str, str | None]:
    """A specification as the metadata of its dataset's schema, in this version's format."""
    fields = {name: kind.value for name, kind in spec.fields.items()}
    described = {**asdict(spec), "codec": spec.codec.value, "fields": fields, "format": _FORMAT}
    return {_SPEC_KEY: json.dumps(described)}


def read_spec(name: str, dataset: lance.LanceDataset) -> CollectionSpec:
    """The specification that a dataset was made with. Raises TokenIndexError where this version cannot read it."""
    raw = (dataset.schema.metadata or {}).get(_SPEC_KEY.encode())
    if raw is None:
        raise TokenIndexError(f"collection {name!r}: {dataset.uri} is a Lance dataset that Tridex did not write")
    spec = json.loads(raw)
    if spec["format"] not in _READABLE:
        newer = " of a newer Tridex" if isinstance(spec["format"], int) and spec["format"] > _FORMAT else ""
        readable = " and ".join(map(str, _READABLE))
        raise TokenIndexError(
            f"collection {name!r} has store format {spec['format']}{newer}; this version reads formats {readable}"
        )
    return CollectionSpec(**{**spec, "codec": Codec(spec["codec"]), "fields": declared_fields(spec["fields"])})
