"""The collections of a comparison: those that are missing are built in the server's store.

Documents are encoded once at most, into the base codec; the other collections are requantized from that one, or from
one that is served.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tridex.building import (
    Embedder,
    Progress,
    build_collection,
    document_reading,
    new_collection_spec,
    requantize,
)
from tridex.client import Client, CollectionInfo, NotFound
from tridex.common import TridexError
from tridex.encoding import create_encoder, latest_version_dir, load_artifact
from tridex.index import Store
from tridex.kernels import Codec
from tridex.protocol import models
from tridex.protocol.corpus import CorpusDocument, Row
from tridex.protocol.limits import COLLECTION_NAME

from .dataset import Dataset
from .systems import BASE_CODEC, System

_ROUNDED = "float16"
"""The other codec that a collection in any codec can be made of."""


class CollectionError(TridexError):
    """A collection is not what the comparison needs. The message says what to do."""


@dataclass
class Collections:
    """The collections of a dataset that a comparison ranks."""

    names: dict[tuple[str, int], str] = field(default_factory=dict)
    """By codec and pooling factor (`System.stored`)."""
    built: list[str] = field(default_factory=list)
    """Those that the comparison made."""

    def of(self, system: System) -> str | None:
        """The collection that a system ranks, None where there is none. BM25 needs texts, which all of them have."""
        if system.ranking.uses_embeddings:
            return self.names.get(system.stored)
        return next(iter(self.names.values()), None)

    def add(self, system: System, name: str) -> None:
        """Takes in a collection that was made."""
        self.names[system.stored] = name
        self.built.append(name)


def served_collections(client: Client, dataset: Dataset, systems: Sequence[System]) -> Collections:
    """What the server holds of a dataset: the collection with its name, whatever its codec, and those of `systems`.

    Raises:
        CollectionError: One that has the name of a system's does not fit it.
    """
    expected = sum(1 for _ in dataset.documents())
    encoder = client.encoder()
    found = Collections()
    for system in systems:
        if not system.is_served:
            continue
        name = system.collection(dataset.name)
        if not COLLECTION_NAME.fullmatch(name):
            raise CollectionError(
                f"{name!r} cannot name a collection; expected a dataset whose name is like {COLLECTION_NAME.pattern}"
            )
        with suppress(NotFound):
            check_fits(client.describe_collection(name), system, expected, encoder)
            found.names[system.stored] = name
    with suppress(NotFound, CollectionError):  # Without it, or where it is another: collections are made.
        own = client.describe_collection(dataset.name)
        as_it_is = System(own.codec, own.codec, own.pooling_factor)
        check_fits(own, as_it_is, expected, encoder)
        found.names.setdefault(as_it_is.stored, own.name)
    return found


def build_missing(
    client: Client,
    dataset: Dataset,
    systems: Sequence[System],
    existing: Collections,
    store: Path,
    repository: Path,
    device: str,
) -> None:
    """Builds what `systems` need and `existing` has not, and adds it there.

    Documents are encoded where there is no collection with all of their token embeddings, in float32 or float16, and
    where float32 itself is missing, on `device`. A rerun continues after a kill.

    Raises:
        CollectionError: The exported encoder is not the served one, or `store` is not the server's.
        ArtifactError, BuildError, TokenIndexError: As of a build.
    """
    absent = [system.stored for system in systems if system.is_served and existing.of(system) is None]
    if not absent:
        return
    collections = Store(store)
    artifact = load_artifact(latest_version_dir(repository / models.ENCODER.name))
    served = client.encoder()
    if artifact.manifest.fingerprint != served["fingerprint"]:
        raise CollectionError(
            f"{repository} holds {artifact.manifest.source} ({artifact.manifest.fingerprint[:12]}), the server serves "
            f"{served['source']} ({served['fingerprint'][:12]}); expected the server's own model repository"
        )
    _check_followed(client, store, collections)
    progress = Progress()
    base = System(BASE_CODEC, BASE_CODEC)
    sources = [existing.names[key] for key in (base.stored, (_ROUNDED, 1)) if key in existing.names]
    if base.stored in absent or not sources:
        name = base.collection(dataset.name)
        spec = new_collection_spec(artifact, Codec(BASE_CODEC), fields={})
        encoder = create_encoder(artifact, device, threads=os.cpu_count() or 1)
        embedder = Embedder(artifact, encoder, document_reading(spec, artifact.manifest))
        build_collection(_Source(dataset), collections, name, spec, embedder, progress=progress)
        existing.add(base, name)
        sources.insert(0, name)
    for system in systems:
        if system.is_served and existing.of(system) is None:
            name = system.collection(dataset.name)
            requantize(
                collections,
                sources[0],
                name,
                Codec(system.codec),
                repository=repository,
                progress=progress,
                pooling_factor=system.pooling_factor,
            )
            existing.add(system, name)


def _check_followed(client: Client, folder: Path, store: Store) -> None:
    stored, served = store.names(), [info.name for info in client.collections()]
    if sorted(stored) != sorted(served):
        raise CollectionError(
            f"{folder} holds the collections {', '.join(stored) or 'none'}, the server {', '.join(served) or 'none'}; "
            "expected the folder that the server serves"
        )


class _Source:
    """A dataset as the bulk build reads it."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def rows(self) -> Iterator[Row]:
        for number, document in enumerate(self._dataset.documents(), 1):
            place = f"{self._dataset.name}, document {number}"
            yield Row(place, CorpusDocument(document.id, document.text, document.metadata))

    def count(self) -> int | None:
        return sum(1 for _ in self._dataset.documents())


def check_fits(existing: CollectionInfo, system: System, expected: int, encoder: Mapping[str, Any]) -> None:
    """Raises CollectionError where a collection does not hold the corpus as the system needs it."""
    advice = "drop it, or compare in another store"
    if existing.dim != encoder["dim"] or existing.fingerprint != encoder["fingerprint"]:
        raise CollectionError(
            f"collection {existing.name!r} holds {existing.dim} dimensions per token of checkpoint "
            f"{existing.fingerprint[:12]}, the served encoder {encoder['source']} is {encoder['fingerprint'][:12]} "
            f"with {encoder['dim']}: serve that checkpoint, or {advice}"
        )
    if (existing.codec, existing.pooling_factor) != (system.codec, system.pooling_factor):
        raise CollectionError(
            f"collection {existing.name!r} is in {existing.codec} with pooling factor {existing.pooling_factor}; "
            f"expected {system.codec} and {system.pooling_factor}: {advice}"
        )
    if existing.count != expected:
        raise CollectionError(
            f"collection {existing.name!r} holds {existing.count:,} documents, the corpus {expected:,}: {advice}"
        )
