"""From a collection to another one with another codec, or with pooled tokens: nothing is encoded again.

A collection in float32 or float16 holds its documents' token embeddings, so a collection in another codec follows
from them, in a hundredth of the time of a build. From float16 the embeddings are rounded once more than in a build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import Artifact, join_windows, latest_version_dir, load_artifact
from tridex.index import Collection, CollectionSpec, Document, Store
from tridex.kernels import Codebook, Codec
from tridex.protocol import models

from . import codebook_training as codebook
from .builder import DOCUMENTS_PER_COMMIT, Summary, check_spec, summary, unfinished
from .collection_specs import document_reading
from .committing import Committing
from .errors import BuildError, InvalidSpecError
from .progress import Progress

_SOURCES = (Codec.FLOAT32, Codec.FLOAT16)

_TOKENS_PER_COMMIT = 1 << 18
"""Their embeddings are in memory: 134 MB of float32 at 128 dimensions, and as much for codes in float32."""

Pool = Callable[[Sequence[str], Sequence[NDArray[np.float32]]], Sequence[NDArray[np.float32]]]
"""Texts and their token embeddings, [tokens, dim] each, to pooled ones."""


def requantize(
    store: Store,
    source: str,
    target: str,
    codec: Codec,
    *,
    repository: Path,
    progress: Progress,
    pooling_factor: int | None = None,
    documents_per_commit: int = DOCUMENTS_PER_COMMIT,
) -> Summary:
    """Makes collection `target` of the documents of collection `source`, as it is now, or continues an unfinished run.

    Args:
        store: Holds the source and gets the target.
        source: A collection in float32 or float16.
        target: The new collection's name.
        codec: Of the new collection.
        repository: The model repository. Pooling asks its tokenizer where the windows of long documents end.
        progress: Told of each stage.
        pooling_factor: One token embedding is kept for this many; the tokens stay as they are where it is None or the
            source's own.
        documents_per_commit: Documents of one transaction, at most.

    Raises:
        BuildError: The source does not hold the encoder's embeddings, or has changed since an unfinished run.
        CollectionExistsError: The name is taken.
        CollectionInUseError: Another process builds the target.
        CheckpointMismatchError: The encoder is not the source's.
    """
    collection = store.open(source)
    spec = _spec(collection, codec, pooling_factor)
    lengths = collection.lengths()
    if not lengths.sum():
        raise BuildError(f"collection {source!r} holds no token embeddings")
    pool = None
    if spec.pooling_factor != collection.spec.pooling_factor:
        pool = _window_pool(collection, spec, load_artifact(latest_version_dir(repository / models.ENCODER.name)))
    made_from = f"{collection.folder.name}, version {collection.version}"
    with ExitStack() as held:
        build = store.resume_build(target)
        if build is None:
            store.check_free(target)
            trained = _train(collection, spec, pool, progress)
            build = held.enter_context(store.begin_build(target, spec, made_from, trained))
        else:
            check_spec(held.enter_context(build), spec)
            if build.source != made_from:
                raise BuildError(unfinished(target, f"from {build.source}, and now there is {made_from}"))
        done = build.collection.count()
        with progress.stage(f"requantize {target}", len(lengths), done) as advance, Committing(build) as committing:
            for places in _commits(lengths, done, documents_per_commit):
                committing.append(*_read(collection, places, pool))
                advance(len(places))
        build.tidy()
        store.finish_build(build)
        return summary(build.collection, resumed_after=done)


def _window_pool(source: Collection, spec: CollectionSpec, artifact: Artifact) -> Pool:
    """Pools each window of a document by itself, as a build does: tokenising the text tells where a window ends."""
    manifest = artifact.manifest
    source.spec.check_checkpoint(source.name, manifest.fingerprint, manifest.component_hashes)
    tokenizer, reading = artifact.tokenizer(), document_reading(spec, manifest)

    def pool(texts: Sequence[str], embeddings: Sequence[NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        batch, of_text = tokenizer.read(texts, reading)
        ends = batch.embedding_mask.sum(axis=1).cumsum()
        tokens = np.concatenate(embeddings)
        windows = [tokens[start:end] for start, end in pairwise([0, *ends.tolist()])]
        windows_per_text = np.bincount(of_text, minlength=len(texts)).tolist()
        return list(join_windows(windows, windows_per_text, reading.pooling_factor))

    return pool


def _spec(source: Collection, codec: Codec, pooling_factor: int | None) -> CollectionSpec:
    if source.spec.codec not in _SOURCES:
        expected = " or ".join(known.value for known in _SOURCES)
        raise BuildError(
            f"collection {source.name!r} is stored as {source.spec.codec.value}, which is rounded already; expected "
            f"{expected}"
        )
    stored = source.spec.pooling_factor
    if pooling_factor not in (None, stored) and stored > 1:
        raise BuildError(
            f"collection {source.name!r} keeps one token for {stored}; expected a collection of all tokens to pool "
            f"by {pooling_factor}"
        )
    try:
        codec.code_bytes(source.spec.dim)
    except ValueError as error:
        raise InvalidSpecError(str(error)) from error
    return replace(source.spec, codec=codec, pooling_factor=pooling_factor or stored, codebook=None)


def _train(source: Collection, spec: CollectionSpec, pool: Pool | None, progress: Progress) -> Codebook | None:
    """The codec's codebook; None if it has none."""
    if not spec.codec.residual_bits:
        return None
    documents = source.count()
    with progress.stage(f"train {spec.codec.value}", None):
        _, sample = _read(source, sorted(codebook.sampled_rows(documents)), pool)
        return codebook.train(sample, documents, spec.codec)


def _read(
    source: Collection, places: Sequence[int], pool: Pool | None
) -> tuple[list[Document], Sequence[NDArray[np.float32]]]:
    documents, embeddings = source.stored(places)
    return documents, embeddings if pool is None else pool([document.text for document in documents], embeddings)


def _commits(lengths: NDArray[np.int64], done: int, most: int) -> Iterator[range]:
    """The places of each transaction's documents, after those that are done."""
    start, tokens = done, 0
    for place in range(done, len(lengths)):
        if place - start == most or (tokens and tokens + lengths[place] > _TOKENS_PER_COMMIT):
            yield range(start, place)
            start, tokens = place, 0
        tokens += int(lengths[place])
    if start < len(lengths):
        yield range(start, len(lengths))
