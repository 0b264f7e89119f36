"""From a checked source to a collection: encodes, commits, and continues where a killed process stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice, tee

from tridex.index import Build, Collection, CollectionSpec, Document, Store
from tridex.kernels import Codebook
from tridex.protocol.sources import Source

from . import codebook_training as codebook
from .committing import Committing
from .embedder import Embed
from .errors import BuildError
from .progress import Progress
from .source_check import Checked, check, documents

DOCUMENTS_PER_COMMIT = 1000
"""A kill loses two commits at most, one that is being written and one that is being encoded: some 30 s on two cores."""

_CHARACTERS_PER_COMMIT = 1 << 20
"""A commit comes earlier where texts are long: the codes of two are in memory, 10 to 70 MB each, 130 in float32."""


@dataclass(frozen=True)
class Summary:
    """What a build did."""

    documents: int
    resumed_after: int
    """Documents that an earlier run had committed."""
    without_text: int
    """Rows skipped."""
    version: int
    bytes_per_document: float
    """On disk."""
    fields: Mapping[str, str]
    """The metadata fields that filters can ask for, and their types."""


def build_collection(
    source: Source,
    store: Store,
    name: str,
    spec: CollectionSpec,
    embed: Embed,
    *,
    progress: Progress,
    documents_per_commit: int = DOCUMENTS_PER_COMMIT,
) -> Summary:
    """Builds a collection of the source's documents, or continues an unfinished build; a finished one is left as it is.

    Args:
        source: Read once to check it, and again to encode it.
        store: Where the collection goes.
        name: Of the collection.
        spec: Its specification.
        embed: Texts to token embeddings, as an `Embedder`.
        progress: Told of each stage.
        documents_per_commit: Documents of one transaction, at most.

    Raises:
        BuildError: The source is bad, or an unfinished collection of that name is built from another source or by
            another specification.
        CollectionExistsError: The name is taken.
        CollectionInUseError: Another process builds the collection.
    """
    with ExitStack() as held:
        build = store.resume_build(name)
        if build is not None:
            check_spec(held.enter_context(build), spec)
        elif store.made_from(name) is None:
            store.check_free(name)
        with progress.stage("check", source.count()) as advance:
            checked = check(source, spec, advance)
        spec = replace(spec, fields=checked.fields)
        if build is None:
            if store.made_from(name) == checked.digest and not _differences(store.open(name).spec, spec):
                return summary(store.open(name), resumed_after=checked.documents, without_text=checked.without_text)
            store.check_free(name)
            trained = _train(source, checked, spec, embed, progress)
            build = held.enter_context(store.begin_build(name, spec, checked.digest, trained))
        elif build.source != checked.digest:
            raise BuildError(unfinished(name, "from another source"))
        collection = build.collection
        done = collection.count()
        with progress.stage("encode", checked.documents, done) as advance, Committing(build) as committing:
            # One call for all, so that encoding goes on from one commit to the next.
            rest, texts = tee(islice(documents(source), done, None))
            embeddings = embed((document.text for document in texts), spec.windows)
            for chunk in _chunks(rest, documents_per_commit):
                committing.append(chunk, islice(embeddings, len(chunk)))
                advance(len(chunk))
        if collection.count() != checked.documents:
            raise BuildError("the source changed while it was read: build it again with --restart")
        build.tidy()
        store.finish_build(build)
        return summary(build.collection, resumed_after=done, without_text=checked.without_text)


def summary(collection: Collection, *, resumed_after: int, without_text: int = 0) -> Summary:
    """The summary of a finished collection."""
    documents = collection.count()
    size = sum(file.stat().st_size for file in collection.folder.rglob("*") if file.is_file())
    fields = {name: kind.value for name, kind in collection.spec.fields.items()}
    return Summary(documents, resumed_after, without_text, collection.version, size / documents, fields)


def check_spec(build: Build, spec: CollectionSpec) -> None:
    """Raises BuildError if the unfinished collection has another specification."""
    if names := _differences(build.collection.spec, spec):
        raise BuildError(unfinished(build.collection.name, f"with another {', '.join(names)}"))


def _differences(begun: CollectionSpec, spec: CollectionSpec) -> list[str]:
    """What a collection was begun with that differs in this specification."""
    # The fingerprint stands for the hashes of its components, which an older collection does not have. Inferred fields
    # follow from the source.
    fields = begun.fields if spec.infers_fields else spec.fields
    wanted = replace(
        spec,
        fields=fields,
        columns=begun.columns,
        codebook=begun.codebook,
        checkpoint=begun.checkpoint,
        format=begun.format,
    )
    return [name for name, value in vars(begun).items() if value != getattr(wanted, name)]


def unfinished(name: str, difference: str) -> str:
    """The message of a build that cannot continue."""
    return (
        f"an unfinished build of collection {name!r} was begun {difference}; continue with what it was begun with, or "
        "start again with --restart"
    )


def _train(source: Source, checked: Checked, spec: CollectionSpec, embed: Embed, progress: Progress) -> Codebook | None:
    """The codec's codebook; None if it has none."""
    if not spec.codec.residual_bits:
        return None
    rows = codebook.sampled_rows(checked.documents)
    sample = [document.text for i, document in enumerate(documents(source)) if i in rows]
    with progress.stage("train", None):
        # Of long documents the beginning is enough.
        return codebook.train(list(embed(sample, False)), checked.documents, spec.codec)


def _chunks(rows: Iterable[Document], most: int) -> Iterator[list[Document]]:
    """The documents of each transaction."""
    chunk: list[Document] = []
    characters = 0
    for document in rows:
        chunk.append(document)
        characters += len(document.text)
        if len(chunk) == most or characters >= _CHARACTERS_PER_COMMIT:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
