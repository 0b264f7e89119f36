"""The collections that a comparison asks: those that are missing are built in the server's store.

Documents are encoded once, into the base codec; the other collections are made of that one (tridex.serving.bulk).
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
from tridex.encoding import create_encoder, latest_version_dir, load_artifact
from tridex.index import Store
from tridex.kernels import Codec
from tridex.protocol import models
from tridex.protocol.corpus import CorpusDocument, Row
from tridex.protocol.limits import COLLECTION_NAME

from .dataset import Dataset
from .systems import BASE_CODEC, System


class CollectionError(ValueError):
    """A collection is not what the comparison needs. The message says what to do."""


def missing(client: Client, dataset: Dataset, systems: Sequence[System]) -> list[System]:
    """One system for each collection that is not there. Raises CollectionError where one is there that does not fit."""
    expected = sum(1 for _ in dataset.documents())
    served = client.server_info().encoder
    absent: dict[str, System] = {}
    for system in systems:
        if not system.is_served:
            continue
        name = system.collection(dataset.name)
        if not COLLECTION_NAME.fullmatch(name):
            raise CollectionError(
                f"{name!r} cannot name a collection; expected a data set whose name is like {COLLECTION_NAME.pattern}"
            )
        try:
            check_fits(client.describe_collection(name), system, expected, served)
        except NotFound:
            absent[name] = system
    return list(absent.values())


def build_missing(client: Client, dataset: Dataset, systems: Sequence[System], store: Path, repository: Path) -> None:
    """Builds the collections of these systems, and first the one in the base codec. A rerun goes on after a kill.

    Raises CollectionError where the exported encoder is not the one that is served, or `store` not the server's;
    ArtifactError, BuildError and TokenIndexError as the build does.
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
        collections.open(base).spec.check_checkpoint(base, manifest.fingerprint, manifest.parts)
    else:
        spec = new_collection_spec(artifact, Codec(BASE_CODEC))
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
    there, served = store.names(), [info.name for info in client.collections()]
    if sorted(there) != sorted(served):
        raise CollectionError(
            f"{folder} holds the collections {', '.join(there) or 'none'}, the server {', '.join(served) or 'none'}; "
            "expected the folder that the server serves"
        )


class _Source:
    """A data set as the bulk build reads it."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def rows(self) -> Iterator[Row]:
        for number, document in enumerate(self._dataset.documents(), 1):
            place = f"{self._dataset.name}, document {number}"
            yield Row(place, CorpusDocument(document.id, document.text, document.metadata))


def check_fits(there: CollectionInfo, system: System, expected: int, encoder: Mapping[str, Any]) -> None:
    """Raises CollectionError where a collection does not hold the corpus as the system wants it."""
    advice = "drop it, or compare in another store"
    if there.dim != encoder["dim"] or there.fingerprint != encoder["fingerprint"]:
        raise CollectionError(
            f"collection {there.name!r} holds {there.dim} dimensions a token of checkpoint {there.fingerprint[:12]}, "
            f"the served encoder {encoder['source']} is {encoder['fingerprint'][:12]} with {encoder['dim']}: serve "
            f"that checkpoint, or {advice}"
        )
    if (there.codec, there.pooling_factor) != (system.codec, system.pooling_factor):
        raise CollectionError(
            f"collection {there.name!r} is in {there.codec} with pooling factor {there.pooling_factor}; expected "
            f"{system.codec} and {system.pooling_factor}: {advice}"
        )
    if there.count != expected:
        raise CollectionError(
            f"collection {there.name!r} holds {there.count:,} documents, the corpus {expected:,}: {advice}"
        )
