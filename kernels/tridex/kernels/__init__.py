"""MaxSim over packed token embeddings, on the CPU and on CUDA devices; `reference` is slow and obviously right."""

from . import reference
from .codecs import Codec
from .cost import search_bytes, search_flops
from .operator import rescore, search, warm_up
from .segment import Segment, pack, pack_bitmap

__all__ = [
    "Codec",
    "Segment",
    "pack",
    "pack_bitmap",
    "reference",
    "rescore",
    "search",
    "search_bytes",
    "search_flops",
    "warm_up",
]
