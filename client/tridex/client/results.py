"""Documents that are written, and what each request gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from .explanation import Explanation

Embeddings: TypeAlias = NDArray[np.float32]
"""[tokens, dim]: the token embeddings of one query or document."""


@dataclass(frozen=True)
class Document:
    """A text under an id of the caller's choice. `metadata` is any JSON object."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    embeddings: Embeddings | None = field(default=None, compare=False, repr=False)
    """What `get(..., with_embeddings=True)` returns: the stored token embeddings, [tokens, dim], as the collection's
    codec kept them. None elsewhere, and not read by `upsert`."""


@dataclass(frozen=True)
class UpsertResult:
    """What became of the documents of an upsert, and the store version that holds them."""

    version: int
    """As the `min_version` of a search, it lets another client see what was written."""
    added: int = 0
    replaced: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class DeleteResult:
    """How many documents a delete removed, and the store version without them."""

    version: int
    """See `UpsertResult.version`."""
    deleted: int = 0


@dataclass(frozen=True)
class UpdateResult:
    """How many documents had their metadata updated, and the store version that has it."""

    version: int
    """See `UpsertResult.version`."""
    updated: int = 0


@dataclass(frozen=True)
class FacetValue:
    """A value of a metadata field, and how many documents have it; a time is ISO 8601."""

    value: str | int | float | bool
    count: int


@dataclass(frozen=True)
class Hit:
    """One document that a search found.

    `score` is what the search's mode ranks by. MaxSim is the sum, over the query's tokens, of the largest dot product
    with a token of the document.
    """

    id: str
    score: float
    text: str | None
    """None where the search did not ask for texts."""
    metadata: Mapping[str, Any] | None
    """None where the search did not ask for metadata."""
    explanation: Explanation | None = None
    """Which words it was found by; None where that was not asked for (`explain`)."""


@dataclass(frozen=True)
class SearchResult(Sequence[Hit]):
    """The hits of one query, best first, and the store version that the search saw."""

    hits: tuple[Hit, ...]
    version: int

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]


@dataclass(frozen=True)
class RerankResult:
    """One reranked document: its position among the documents given, and its MaxSim score."""

    index: int
    relevance_score: float
    id: str | None = None
    """The document's id where ids were given, None where texts were given."""


@dataclass(frozen=True)
class CollectionInfo:
    """One collection. `codec` is how it stores embeddings of `dim` dimensions; `fingerprint` names its encoder."""

    name: str
    count: int = 0
    version: int = 0
    codec: str = ""
    dim: int = 0
    fingerprint: str = ""
    checkpoint: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the encoder's weights, tokenizer and rules; empty for a collection of an older Tridex."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """The metadata fields that filters can ask for, and their types."""
    document_length: int = 0
    """Most tokens of a document that the encoder reads at once."""
    long_documents: str = ""
    """What becomes of longer ones: "windows" or "truncate"."""
    pooling_factor: int = 1
    """One token embedding is kept for every so many."""
    codebook: str | None = None
    """SHA-256 of the residual codecs' codebook; None for the other codecs."""
    tokens: int = 0
    """Token embeddings of all documents."""
    device_bytes: int = 0
    """Device memory that its documents take."""
    budget_bytes: int = 0
    """The `--memory-budget` that a server needs for this collection alone, with room for deleted rows and copying."""
    infers_fields: bool = False
    """Whether its first documents add fields."""
    damage: str = ""
    """Why the collection cannot be read, if it is corrupt; then only its name is known. Empty otherwise."""


@dataclass(frozen=True)
class ServerInfo:
    """The Triton server behind an address, and the manifest of the encoder it serves."""

    name: str
    version: str
    extensions: tuple[str, ...]
    encoder: Mapping[str, Any]


@dataclass(frozen=True)
class ModelStatistics:
    """What one served model did since it was loaded; the means are microseconds per request."""

    model: str
    requests: int
    failed: int
    """Requests that failed in the Triton server. One that a Python model answers with an error counts in `requests`."""
    executions: int
    """Batches run: requests / executions is the mean batch."""
    mean_queue_us: float
    mean_compute_us: float
    """Reading inputs, computing and writing outputs."""
