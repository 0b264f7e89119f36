"""A BM25 index whose files are open and then removed, as by another process."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from tridex.index import CollectionSpec, Document, Store
from tridex.index.storage import compaction
from tridex.index.storage.lance_session import forget_cached
from tridex.kernels import Codec

ONE = np.ones((1, 4), np.float32)


def create_indexed(store: Store, *names: str) -> None:
    """Makes collections with a BM25 index, read with caches of their own: what earlier tests left has others."""
    forget_cached()
    for name in names:
        store.create(name, CollectionSpec(4, Codec.FLOAT32, "f" * 64))
        _put_words(store, name)


def _put_words(store: Store, name: str) -> None:
    """Replaces 300 documents and has their texts indexed anew. Of fewer words, Lance does not keep the file open."""
    documents = [Document(f"{i:03}", " ".join(f"word{i * j % 100}" for j in range(1, 20)), {}) for i in range(300)]
    store.open(name).upsert(documents, [ONE] * len(documents))
    store.open(name).index_new_texts()


def search_and_rewrite(store: Store, name: str) -> None:
    """Searches, so that the index is open; then another takes its place, and the files of the first are removed."""
    assert store.open(name).search_texts("word3", 5).ids
    _put_words(store, name)
    # Not Collection.clean_up, which has this process forget its caches.
    compaction.clean_up(store.open(name).dataset, timedelta(0))
