"""How a segment's documents are cut up into the blocks that programs take, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from triton import cdiv

from tridex.kernels.segment import Segment

_BLOCKS_PER_SPLIT = 8
"""So that a split that got the long documents can leave blocks to others."""

_LAST_QUARTERS = 4
"""The last quarter of the documents is in blocks a quarter as large: no split is waited for longer."""

_TOKENS_PER_BLOCK = 7680
"""A block of more has nothing to gain: 1.9 MiB of float16 at 128 dimensions. With 300 tokens a document it has 475
chunks, and a program lists 512 at a time (LIST)."""


@dataclass(frozen=True)
class Blocks:
    """Of neighbouring documents."""

    block_documents: int
    large_blocks: int
    last_documents: int
    """In each block behind the large ones."""
    blocks: int


def cut_up(segment: Segment, documents: int, splits: int, most: int) -> Blocks:
    """Blocks of at most `most` of so many documents of a segment, for so many splits. Known from shapes alone."""
    by_tokens = _TOKENS_PER_BLOCK * segment.documents // max(segment.tokens, 1)
    by_splits = documents // (splits * _BLOCKS_PER_SPLIT)
    block_documents = min(max(min(by_tokens, by_splits), 1), most)
    large_blocks = (documents - documents // _LAST_QUARTERS) // block_documents
    last_documents = max(block_documents // _LAST_QUARTERS, 1)
    last_blocks = cdiv(documents - large_blocks * block_documents, last_documents)
    return Blocks(block_documents, large_blocks, last_documents, large_blocks + last_blocks)
