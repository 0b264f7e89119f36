"""MaxSim over packed token embeddings, on the CPU and on CUDA devices; `reference` is slow and obviously right."""

from . import reference
from .arrays import TokenEmbeddings, concatenated, on_host
from .clustering import spherical_k_means
from .codebook import Codebook
from .codecs import Codec
from .columns import Columns
from .cost import search_bytes, search_flops
from .k_means import train_codebook
from .operator import compile_ahead, explain, rescore, search, search_workspace_bytes, supported_codecs, warm_up
from .scaling import LARGEST_SCORE, ScaledQueries, scale_queries
from .search_plan import SearchPlan
from .segment import Segment, pack, pack_bitmap

__all__ = [
    "LARGEST_SCORE",
    "Codebook",
    "Codec",
    "Columns",
    "ScaledQueries",
    "SearchPlan",
    "Segment",
    "TokenEmbeddings",
    "compile_ahead",
    "concatenated",
    "explain",
    "on_host",
    "pack",
    "pack_bitmap",
    "reference",
    "rescore",
    "scale_queries",
    "search",
    "search_bytes",
    "search_flops",
    "search_workspace_bytes",
    "spherical_k_means",
    "supported_codecs",
    "train_codebook",
    "warm_up",
]
