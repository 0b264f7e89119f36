"""Bulk build: a corpus in files to a collection, without a server, in bounded memory, and resumable.

    check    every row is read and checked, counted and sampled                (source_check.py)
    train    the residual codecs' codebook, on the sample                      (codebook_training.py)
    encode   text to codes, a transaction every thousand documents             (builder.py)
    finish   the collection gets its name, and is searched from then on

Until it is finished nobody sees the collection, so nobody else writes to it, and what is committed is always the first
documents of the source: a rerun counts them and continues after them. requantization.py makes a collection of another
one.
"""

from typing import TYPE_CHECKING

from tridex.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .builder import Summary, build_collection
    from .collection_specs import DEFAULT_CODEC, document_reading, new_collection_spec
    from .embedder import Embed, Embedder
    from .errors import BuildError, InvalidSpecError
    from .progress import Progress
    from .requantization import requantize

__all__ = [
    "DEFAULT_CODEC",
    "BuildError",
    "Embed",
    "Embedder",
    "InvalidSpecError",
    "Progress",
    "Summary",
    "build_collection",
    "document_reading",
    "new_collection_spec",
    "requantize",
]

if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(
        __name__,
        {
            "builder": ["Summary", "build_collection"],
            "collection_specs": ["DEFAULT_CODEC", "document_reading", "new_collection_spec"],
            "embedder": ["Embed", "Embedder"],
            "errors": ["BuildError", "InvalidSpecError"],
            "progress": ["Progress"],
            "requantization": ["requantize"],
        },
    )
