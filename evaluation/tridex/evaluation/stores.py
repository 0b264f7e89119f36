"""The collections of a comparison: those that are missing are built in the server's store.

Documents are encoded once, into the base codec; the other collections are requantized from that one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
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


class CollectionError(TridexError):
    """A collection is not what the comparison needs. The message says what to do."""


def missing(client: Client, dataset: Dataset, systems: Sequence[System]) -> list[System]:
    """One system for each missing collection. Raises CollectionError where an existing one does not fit."""
    expected = sum(1 for _ in dataset.documents())
    served = client.server_info().encoder
    absent: dict[str, System] = {}
    for system in systems:
        if not system.is_served:
            continue
        name = system.collection(dataset.name)
        if not COLLECTION_NAME.fullmatch(name):
            raise CollectionError(
                f"{name!r} cannot name a collection; expected a dataset whose name is like {COLLECTION_NAME.pattern}"
            )
        try:
            check_fits(client.describe_collection(name), system, expected, served)
        except NotFound:
            absent[name] = system
    return list(absent.values())


def build_missing(client: Client, dataset: Dataset, systems: Sequence[System], store: Path, repository: Path) -> None:
    """Builds the collections of these systems, and first the one in the base codec. A rerun continues after a kill.

    Raises:
        CollectionError: The exported encoder is not the served one, or `store` is not the server's.
        ArtifactError, BuildError, TokenIndexError: As of a build.
    """
    collections = Store(store)
    artifact = load_artifact(latest_version_dir(repository / models.ENCODER.name))
    served = client.server_info().encoder
    if artifact.manifest.fingerprint != served["fingerprint"]:
        raise CollectionError(
            f"{repository} holds {artifact.manifest.source} ({artifact.manifest.fingerprint[:12]}), the server serves "
            f"{served['source']} ({served['fingerprint'][:12]}); expected the server's own model repository"
        )
    _check_followed(client, store, collections)
    progress = Progress()
    base = System(BASE_CODEC, BASE_CODEC).collection(dataset.name)
    if base in collections.names():
        manifest = artifact.manifest
        collections.open(base).spec.check_checkpoint(base, manifest.fingerprint, manifest.component_hashes)
    else:
        spec = new_collection_spec(artifact, Codec(BASE_CODEC), fields={})
        encoder = create_encoder(artifact, threads=os.cpu_count() or 1)
        embedder = Embedder(artifact, encoder, document_reading(spec, artifact.manifest))
        build_collection(_Source(dataset), collections, base, spec, embedder, progress=progress)
    for system in systems:
        name = system.collection(dataset.name)
        if name not in collections.names():
            requantize(
                collections,
                base,
                name,
                Codec(system.codec),
                repository=repository,
                progress=progress,
                pooling_factor=system.pooling_factor,
            )


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
