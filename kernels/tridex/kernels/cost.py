"""What a search costs at the least: the figures that a roofline is drawn from."""

from __future__ import annotations

from .segment import Segment


def search_flops(segment: Segment, query_tokens: int) -> int:
    """Floating-point operations of the dot products of `query_tokens`, of all queries together, with every token."""
    return 2 * query_tokens * segment.tokens * segment.dim


def search_bytes(segment: Segment) -> int:
    """Bytes of one pass over the segment, whatever the number of queries: tokens, offsets, bitmap; not the codebook."""
    columns = sum(column.nbytes for column in segment.columns if column is not None)
    return columns + segment.offsets.nbytes + segment.live.nbytes
