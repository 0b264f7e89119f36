"""Bulk build: a corpus in files to a collection, without a server, in bounded memory, and resumable.

    check    every row is read and checked, counted and sampled                (source_check.py)
    train    the residual codecs' codebook, on the sample                      (codebook_training.py)
    encode   text to codes, a transaction every thousand documents             (builder.py)
    finish   the collection gets its name, and is searched from then on

Until it is finished nobody sees the collection, so nobody else writes to it, and what is committed is always the first
documents of the source: a rerun counts them and continues after them. requantization.py makes a collection of another
one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builder import Summary, build_collection
    from .collection_specs import DEFAULT_CODEC, document_reading, new_collection_spec
    from .embedder import Embed, Embedder
    from .errors import BuildError
    from .progress import Progress
    from .requantization import requantize
    from .sources import Source, open_source

__all__ = [
    "DEFAULT_CODEC",
    "BuildError",
    "Embed",
    "Embedder",
    "Progress",
    "Source",
    "Summary",
    "build_collection",
    "document_reading",
    "new_collection_spec",
    "open_source",
    "requantize",
]

_MODULES = {
    "DEFAULT_CODEC": "collection_specs",
    "BuildError": "errors",
    "Embed": "embedder",
    "Embedder": "embedder",
    "Progress": "progress",
    "Source": "sources",
    "Summary": "builder",
    "build_collection": "builder",
    "document_reading": "collection_specs",
    "new_collection_spec": "collection_specs",
    "open_source": "sources",
    "requantize": "requantization",
}


def __getattr__(name: str) -> Any:
    # The command line imports this package for every command; the index takes a second.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
