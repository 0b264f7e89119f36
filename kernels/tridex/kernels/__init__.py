"""MaxSim over packed token embeddings, on the CPU and on CUDA devices; `reference` is slow and obviously right."""

from . import reference
from .codebook import Codebook, train_codebook
from .codecs import Codec, Planes
from .cost import search_bytes, search_flops
from .operator import explain, rescore, search, search_workspace_bytes, supported_codecs, warm_up
from .segment import Segment, pack, pack_bitmap

__all__ = [
    "Codebook",
    "Codec",
    "Planes",
    "Segment",
    "explain",
    "pack",
    "pack_bitmap",
    "reference",
    "rescore",
    "search",
    "search_bytes",
    "search_flops",
    "search_workspace_bytes",
    "supported_codecs",
    "train_codebook",
    "warm_up",
]
