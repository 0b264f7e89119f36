"""Bulk build: a corpus in files to a collection, without a server, in bounded memory, and resumable.

    check    every row is read and checked, counted and sampled                (check.py)
    train    the residual codecs' codebook, on the sample                      (codebook.py)
    encode   text to codes, a transaction every thousand documents             (builder.py)
    finish   the collection gets its name, and is searched from then on

Until it is finished nobody sees the collection, so nobody else writes to it, and what is committed is always the first
documents of the source: a rerun counts them and goes on behind them. requantize.py makes a collection of another one.
"""

from .builder import Summary, build_collection
from .encode import Encode, local_encoder
from .errors import BuildError
from .requantize import requantize
from .sources import open_source

__all__ = ["BuildError", "Encode", "Summary", "build_collection", "local_encoder", "open_source", "requantize"]
