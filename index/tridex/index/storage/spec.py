"""What every document of a collection has in common, and how the dataset's schema keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import lance
import pyarrow as pa

from tridex.index.errors import CheckpointMismatchError, TokenIndexError
from tridex.kernels import Codec

from .fields import Fields, columns, declared_fields

_SPEC_KEY = b"tridex"
_FORMAT = 4
_READABLE = (2, 3, _FORMAT)
"""Format 2 has no specification of how documents are read: they were cut at the checkpoint's own length. Format 3 knows
the checkpoint's fingerprint alone, not its parts."""


@dataclass(frozen=True)
class CollectionSpec:
    """What every document of a collection has in common; fixed when the collection is created."""

    dim: int
    codec: Codec
    fingerprint: str
    """The checkpoint that made the token embeddings; SHA-256 of all its parts."""
    fields: Fields = field(default_factory=dict)
    """The metadata fields that filters can ask for."""
    document_length: int | None = None
    """Most tokens that the encoder reads of a document, or of each window of it; None: the checkpoint's own length."""
    windows: bool = False
    """Whether a longer document is read in several windows; where not, it is cut."""
    pooling_factor: int = 1
    """One token is kept for this many that the encoder made."""
    codebook: str | None = None
    """SHA-256 of the residual codecs' codebook; None for the others."""
    checkpoint: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each part of the checkpoint, by name; empty in older collections."""
    format: int = _FORMAT

    def check_checkpoint(self, name: str, fingerprint: str, parts: Mapping[str, str]) -> None:
        """Raises CheckpointMismatchError unless collection `name` was made with the checkpoint of that fingerprint."""
        if fingerprint == self.fingerprint:
            return
        other = " and ".join(part for part, sha256 in self.checkpoint.items() if parts.get(part) != sha256)
        raise CheckpointMismatchError(
            f"collection {name!r} was indexed with checkpoint {_described(self.fingerprint, self.checkpoint)}, the "
            f"served encoder is {_described(fingerprint, parts)}{other and f', another in {other}'}: index the "
            "documents into another collection, or serve that checkpoint"
        )


def _described(fingerprint: str, parts: Mapping[str, str]) -> str:
    hashes = ", ".join(f"{part} {sha256[:12]}" for part, sha256 in parts.items())
    return f"{fingerprint[:12]} ({hashes})" if hashes else fingerprint[:12]


def schema_of(spec: CollectionSpec) -> pa.Schema:
    """The columns of a collection's dataset, with the specification in the metadata."""
    fields = {name: kind.value for name, kind in spec.fields.items()}
    described = {**asdict(spec), "codec": spec.codec.value, "fields": fields}
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("text", pa.large_string(), nullable=False),
            pa.field("metadata", pa.large_string(), nullable=False),
            pa.field("tokens", pa.int32(), nullable=False),
            # One document's codes, [tokens, bytes per token], row after row.
            pa.field("codes", pa.large_binary(), nullable=False),
            *(pa.field(column, spec.fields[name].arrow) for name, column in columns(spec.fields).items()),
        ],
        metadata={_SPEC_KEY: json.dumps(described).encode()},
    )


def read_spec(name: str, dataset: lance.LanceDataset) -> CollectionSpec:
    """The specification that a dataset was made with. Raises TokenIndexError where this version cannot read it."""
    raw = (dataset.schema.metadata or {}).get(_SPEC_KEY)
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
