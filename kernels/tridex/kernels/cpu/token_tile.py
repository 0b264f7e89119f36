"""Packed token tiles: the tokens of neighbouring documents, back to back, made ready for the register tiles."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .codes import IN_PLACE, Reading, halves_to_floats, load_codes
from .compiled import compiled
from .register_tile import PANEL, ROWS

TILE_TOKENS = 16 * ROWS
"""Tokens in a tile: 64 KiB of float32 at 128 dimensions. 8 * ROWS took 5 to 15 % longer for a query of 16 tokens."""


class Tokens(NamedTuple):
    """A segment's tokens."""

    codes: NDArray[np.uint8]
    """[tokens, bytes]"""
    scales: NDArray[np.uint8]
    """[tokens, 2], float16's bytes; [0, 2] where the codec has none."""
    centroid_ids: NDArray[np.uint16]
    """[tokens]; empty where the codec has none."""
    centroids: NDArray[np.uint8]
    """int8's bits [centroids, dim]; [0, 0] for the codecs without."""
    bucket_weights: NDArray[np.uint8]
    """[16], 128 above the codebook's; any for the codecs without."""


class TokenTile(NamedTuple):
    """Up to TILE_TOKENS tokens."""

    words: NDArray[np.uint32]
    """[TILE_TOKENS, W]"""
    octets: NDArray[np.uint8]
    """[TILE_TOKENS, 4 W], the bytes of words."""
    places: NDArray[np.int64]
    """[TILE_TOKENS], the row of each token in `words`, or in the segment's codes where those are read."""
    scales: NDArray[np.float32]
    """[TILE_TOKENS, 1]"""
    dots: NDArray[np.float32]
    """[TILE_TOKENS, PANEL]"""
    room: NDArray[np.uint8]
    """[1, 4 W], for a token's bytes."""


@compiled
def empty_tile(width: int, in_place: bool) -> TokenTile:
    """A tile of tokens of `width` words; in_place: to be read where they lie, where place 0 is sure to be one."""
    words = np.zeros((TILE_TOKENS, width), np.uint32)
    return TokenTile(
        words,
        words.view(np.uint8),
        np.zeros(TILE_TOKENS, np.int64) if in_place else np.arange(TILE_TOKENS),
        np.ones((TILE_TOKENS, 1), np.float32),
        np.empty((TILE_TOKENS, PANEL), np.float32),
        np.empty((1, 4 * width), np.uint8),
    )


@compiled
def load_tokens(reading: Reading, tokens: Tokens, first: int, count: int, tile: TokenTile, at: int) -> None:
    """Puts `count` tokens of a segment, from `first` on, into the tile from `at` on.

    Codes come last: nothing has asked for scales and ids before, and their cache misses hide behind the conversion of
    codes. The other way round a query over residual codes took a third longer.
    """
    if len(tokens.scales):
        for j in range(count):
            halves_to_floats(tokens.scales, first + j, tile.scales, at + j, 1)
    if reading.loader == IN_PLACE:
        for j in range(count):
            tile.places[at + j] = first + j
    else:
        load_codes(
            reading,
            tokens.codes,
            tokens.centroids,
            tokens.centroid_ids,
            tokens.bucket_weights,
            first,
            count,
            tile.octets,
            at,
            tile.room,
        )
