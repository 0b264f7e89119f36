"""MaxSim over packed token embeddings, on the CPU and on CUDA devices; `reference` is slow and obviously right.

torch is loaded when one of the names needs it: `Codec` alone does not.
"""

from typing import TYPE_CHECKING

from tridex.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import reference
    from .approximation import Approximation, approximate, approximation_bytes
    from .arrays import TokenEmbeddings, concatenated, on_host
    from .clustering import spherical_k_means
    from .codebook import Codebook
    from .codec import Codec
    from .codecs import decode, decode_columns, encode, split_rows
    from .columns import Columns
    from .cost import search_bytes, search_flops
    from .k_means import train_codebook
    from .operator import (
        Operator,
        approximates,
        compile_ahead,
        explain,
        rescore,
        search,
        search_workspace_bytes,
        supported_codecs,
        warm_up,
    )
    from .scaling import LARGEST_SCORE, ScaledQueries, scale_queries
    from .search_plan import SearchPlan
    from .segment import Segment, pack, pack_bitmap, unpack_bitmap

__all__ = [
    "LARGEST_SCORE",
    "Approximation",
    "Codebook",
    "Codec",
    "Columns",
    "Operator",
    "ScaledQueries",
    "SearchPlan",
    "Segment",
    "TokenEmbeddings",
    "approximate",
    "approximates",
    "approximation_bytes",
    "compile_ahead",
    "concatenated",
    "decode",
    "decode_columns",
    "encode",
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
    "split_rows",
    "supported_codecs",
    "train_codebook",
    "unpack_bitmap",
    "warm_up",
]

if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(
        __name__,
        {
            "approximation": ["Approximation", "approximate", "approximation_bytes"],
            "arrays": ["TokenEmbeddings", "concatenated", "on_host"],
            "clustering": ["spherical_k_means"],
            "codebook": ["Codebook"],
            "codec": ["Codec"],
            "codecs": ["decode", "decode_columns", "encode", "split_rows"],
            "columns": ["Columns"],
            "cost": ["search_bytes", "search_flops"],
            "k_means": ["train_codebook"],
            "operator": [
                "Operator",
                "approximates",
                "compile_ahead",
                "explain",
                "rescore",
                "search",
                "search_workspace_bytes",
                "supported_codecs",
                "warm_up",
            ],
            "reference": [],
            "scaling": ["LARGEST_SCORE", "ScaledQueries", "scale_queries"],
            "search_plan": ["SearchPlan"],
            "segment": ["Segment", "pack", "pack_bitmap", "unpack_bitmap"],
        },
    )
