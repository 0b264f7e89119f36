"""From a checked source to a collection: encodes, commits, and goes on where a killed process stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice

from tridex.index import Build, Collection, CollectionSpec, Document, Store
from tridex.kernels import Codebook

from . import codebook_training as codebook
from .embedder import Embed
from .errors import BuildError
from .progress import Progress
from .source_check import Checked, check, documents
from .sources import Source

DOCUMENTS_PER_COMMIT = 1000
"""What a kill costs at most: some 20 s of encoding on two cores."""

_CHARACTERS_PER_COMMIT = 1 << 20
"""A commit comes earlier where texts are long: its codes are held, 130 MB in float32, 10 to 70 MB in other codecs."""


@dataclass(frozen=True)
class Summary:
    """What a build did."""

    documents: int
    resumed_after: int
    """Documents that an earlier run had committed."""
    without_text: int
    """Rows passed over."""
    version: int
    bytes_per_document: float
    """On disk."""


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
    """Builds collection `name` of the source's documents, or goes on with it; none is left to do where it is done.

    Raises BuildError for a bad source, and where an unfinished collection of that name is built from another source or
    by another specification; CollectionExistsError where the name is taken, CollectionInUseError where another process
    builds it.
    """
    with ExitStack() as held:
        build = store.resume_build(name)
        if build is not None:
            check_spec(held.enter_context(build), spec)
        elif store.made_from(name) is None:
            store.check_free(name)
        with progress.stage("check", None) as advance:
            checked = check(source, spec.fields, advance)
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
        with progress.stage("encode", checked.documents, done) as advance:
            for chunk in _chunks(islice(documents(source), done, None), documents_per_commit):
                build.append(chunk, embed([document.text for document in chunk], spec.windows))
                advance(len(chunk))
        if collection.count() != checked.documents:
            raise BuildError("the source changed while it was read: build it again with --restart")
        build.tidy()
        store.finish_build(build)
        return summary(build.collection, resumed_after=done, without_text=checked.without_text)


def summary(collection: Collection, *, resumed_after: int, without_text: int = 0) -> Summary:
    """What there is now."""
    documents = collection.count()
    size = sum(file.stat().st_size for file in collection.folder.rglob("*") if file.is_file())
    return Summary(documents, resumed_after, without_text, collection.version, size / documents)


def check_spec(build: Build, spec: CollectionSpec) -> None:
    """Raises BuildError where the unfinished collection has another specification."""
    if names := _differences(build.collection.spec, spec):
        raise BuildError(unfinished(build.collection.name, f"with another {', '.join(names)}"))


def _differences(there: CollectionSpec, spec: CollectionSpec) -> list[str]:
    """What a collection was begun with that is not in this specification."""
    # The fingerprint stands for the parts, which an older collection does not have.
    wanted = replace(spec, codebook=there.codebook, checkpoint=there.checkpoint, format=there.format)
    return [name for name, value in vars(there).items() if value != getattr(wanted, name)]


def unfinished(name: str, difference: str) -> str:
    """What to say of a build that cannot go on."""
    return (
        f"an unfinished build of collection {name!r} was begun {difference}; go on with what it was begun with, or "
        "start again with --restart"
    )


def _train(source: Source, checked: Checked, spec: CollectionSpec, embed: Embed, progress: Progress) -> Codebook | None:
    """The codec's codebook, None where it has none."""
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
